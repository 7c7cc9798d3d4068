// y (C) fp32 = the sum of the rows of x (R,C), or y += that sum, added in fp32 in row order; x is
// fp32, bf16 or fp16. Parallel over columns, so the result does not depend on the number of
// threads.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/half.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

constexpr int64_t kPieceCols = 1024;  // of a sum: stays in the L1 cache while the rows are added

void add(float* to, const float* from, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// Elements [begin, begin + count) of one row, as fp32: in place, or converted into `widened`.
const float* row_piece(const Tensor& x, int64_t row, int64_t begin, int64_t count, float* widened) {
  const int64_t first = row * x.row_stride() + begin;
  if (x.dtype() == DType::kF32) return x.f32() + first;
  widen(widened, x.data<uint16_t>() + first, count, x.dtype());
  return widened;
}

enum class Into : uint8_t { kReplace, kAdd };

void sum_piece(float* y, const Tensor& x, int64_t begin, int64_t count, Into into) {
  std::array<float, kPieceCols> sum, widened;
  std::memcpy(sum.data(), row_piece(x, 0, begin, count, widened.data()),
              static_cast<size_t>(count) * sizeof(float));
  for (int64_t row = 1; row < x.rows(); ++row)
    add(sum.data(), row_piece(x, row, begin, count, widened.data()), count);
  if (into == Into::kAdd)
    add(y, sum.data(), count);
  else
    std::memcpy(y, sum.data(), static_cast<size_t>(count) * sizeof(float));
}

void sum_all(Tensor y, Tensor x, Into into) {
  float* const to = y.f32();
  for_column_ranges(x.rows(), x.cols(), [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kPieceCols)
      sum_piece(to + first, x, first, std::min(kPieceCols, end - first), into);
  });
}

}  // namespace

void CpuBackend::do_sum_rows(Tensor y, Tensor x) { sum_all(y, x, Into::kReplace); }

void CpuBackend::do_sum_rows_accumulate(Tensor y, Tensor x) { sum_all(y, x, Into::kAdd); }

}  // namespace facet
