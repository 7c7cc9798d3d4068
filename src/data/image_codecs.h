// The decoders of decode_image().
#pragma once

#include "data/image.h"

namespace facet {

RgbImage decode_jpeg(std::string_view bytes, const std::string& name, int64_t max_pixels);
RgbImage decode_png(std::string_view bytes, const std::string& name, int64_t max_pixels);
RgbImage decode_webp(std::string_view bytes, const std::string& name, int64_t max_pixels);

// Throws Error(kBadData) if the size in the header exceeds the limit (--max_image_pixels).
void check_pixel_limit(int64_t width, int64_t height, int64_t max_pixels, const std::string& name);

}  // namespace facet
