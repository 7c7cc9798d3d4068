// Writing of the drawn pictures.
#pragma once

#include <string>

#include "data/image.h"

namespace facet::tiny {

// By the ending of the path: .png (exact) or .jpg (quality 92, full colour resolution).
void write_image(const std::string& path, const RgbImage& image);

}  // namespace facet::tiny
