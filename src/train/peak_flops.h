// What a GPU can do at most, for the share of it that a run uses.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace facet {

// As the CUDA runtime describes it.
struct GpuShape {
  int major = 0, minor = 0;     // compute capability
  int64_t multiprocessors = 0;  // as visible to the process
  double clock = 0;             // Hz, the highest
};

// Floating-point operations a second of dense matrix products whose operands have this type and
// whose sums are fp32: multiprocessors x clock x operations per cycle of its architecture. 0 for an
// architecture that is not known. fp32 is multiplied without tensor cores, as the kernels do.
double peak_flops(const GpuShape& gpu, DType dtype);

}  // namespace facet
