// Head widths E for which attention runs on a GPU's tensor cores, in bf16 and fp16; the others run
// on kernels without them, which are much slower.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace facet {

constexpr std::array<int, 3> kTensorCoreWidths = {64, 80, 128};

constexpr bool has_tensor_core_width(int64_t width) {
  return std::find(kTensorCoreWidths.begin(), kTensorCoreWidths.end(), width) !=
         kTensorCoreWidths.end();
}

}  // namespace facet
