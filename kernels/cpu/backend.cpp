#include "kernels/cpu/backend.h"

#include <omp.h>

#include "base/check.h"
#include "kernels/cpu/parallel.h"

namespace facet {

CpuBackend::CpuBackend(int threads) : threads_(threads) {
  ASSERT(threads >= 1, "a backend with {} threads", threads);
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
}

ColumnSums CpuBackend::column_sums(int64_t cols) {
  const int64_t stride = (cols + kLineFloats - 1) / kLineFloats * kLineFloats;
  partials_.assign(static_cast<size_t>(threads_ * stride), 0.0f);
  return {partials_.data(), threads_, cols, stride};
}

void ColumnSums::add_to(float* total, int64_t begin, int64_t count) const {
  for (int64_t t = 0; t < threads; ++t) {
    const float* part = data + t * stride + begin;
#pragma omp simd
    for (int64_t c = 0; c < count; ++c) total[c] += part[c];
  }
}

}  // namespace facet
