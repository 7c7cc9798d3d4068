// Bicubic resizing with exactly the bytes of Pillow's Image.resize(size, BICUBIC).
#pragma once

#include "data/image.h"

namespace facet {

struct Region {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

// Antialiased bicubic (a = -0.5), 8-bit fixed point, horizontal pass first. `region` lies inside
// the target of width x height and is all that is computed and returned: a crop costs what the crop
// holds, however long the target is.
RgbImage resize_bicubic(const RgbImage& image, int64_t width, int64_t height, const Region& region);

}  // namespace facet
