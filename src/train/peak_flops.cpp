#include "train/peak_flops.h"

#include <algorithm>
#include <array>

namespace facet {

namespace {

// Operations per cycle of a multiprocessor, a multiply-add being two: from the figures that NVIDIA
// publishes for the processors of each architecture (dense, not sparse, divided by multiprocessors
// and boost clock). fp32: two for each fp32 core.
struct Architecture {
  int major, minor;
  double of_16_bits, of_fp32;
};
constexpr std::array kArchitectures = {
    Architecture{8, 0, 2048, 128},   // A100
    Architecture{8, 6, 1024, 256},   // A40, RTX A6000
    Architecture{8, 7, 2048, 256},   // Orin
    Architecture{8, 9, 1024, 256},   // L4, L40S
    Architecture{9, 0, 4096, 256},   // H100, H200
    Architecture{10, 0, 8192, 256},  // B200
    Architecture{10, 3, 8192, 256},  // B300
    Architecture{12, 0, 1024, 256},  // RTX PRO 6000 Blackwell
};

}  // namespace

double peak_flops(const GpuShape& gpu, DType dtype) {
  const auto* const known = std::find_if(
      kArchitectures.begin(), kArchitectures.end(),
      [&](const Architecture& each) { return each.major == gpu.major && each.minor == gpu.minor; });
  if (known == kArchitectures.end()) return 0;
  const double per_cycle = dtype == DType::kF32 ? known->of_fp32 : known->of_16_bits;
  return static_cast<double>(gpu.multiprocessors) * gpu.clock * per_cycle;
}

}  // namespace facet
