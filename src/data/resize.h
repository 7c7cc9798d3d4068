// Bicubic resizing with exactly the bytes of Pillow's Image.resize(size, BICUBIC).
#pragma once

#include "data/image.h"

namespace facet {

// Antialiased bicubic (a = -0.5), 8-bit fixed point, horizontal pass first. Both sides of the image
// and both target sides are at least 1.
RgbImage resize_bicubic(const RgbImage& image, int64_t width, int64_t height);

}  // namespace facet
