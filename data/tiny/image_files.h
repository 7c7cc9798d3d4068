// Writing of the drawn pictures.
#pragma once

#include <string>

#include "data/image.h"

namespace facet::tiny {

// Quality 92, full colour resolution.
std::string encode_jpeg(const RgbImage& image);

// By the ending of the path: .png (exact) or .jpg.
void write_image(const std::string& path, const RgbImage& image);

}  // namespace facet::tiny
