// Golden files of this room; scripts/make_golden_data.py, make_golden_sets.py and
// make_golden_images.py make them.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

inline const std::string kGoldenDir = "tests/golden/data";

template <typename T>
int64_t crc_of(const std::vector<T>& values) {
  return static_cast<int64_t>(
      crc32_z(0, reinterpret_cast<const unsigned char*>(values.data()), values.size() * sizeof(T)));
}

}  // namespace facet
