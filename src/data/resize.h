// Bicubic resizing with exactly the result of Pillow's Image.resize(size, BICUBIC).
#pragma once

#include "data/image.h"

namespace facet {

struct Region {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

// Antialiased bicubic (a = -0.5), 8-bit fixed point, horizontal pass first. Only `region`, inside
// the target of width x height, is computed and returned: the cost of a crop does not depend on the
// size of the target.
RgbImage resize_bicubic(const RgbImage& image, int64_t width, int64_t height, const Region& region);

}  // namespace facet
