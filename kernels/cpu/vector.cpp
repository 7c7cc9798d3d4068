// Plain operators on matrices whose rows may have gaps: fill, copy (moves bytes of equal types,
// converts between fp32 and 16 bits), add_accumulate (y += x), copies from and to plain host
// memory, and sum (of all elements, in double, over blocks of fixed length added in order).
// Parallel over rows, or over ranges of dense tensors.
#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

constexpr int64_t kPieceBytes = 64 * 1024;  // of a copy, per iteration of a thread

void copy_bytes(char* to, const char* from, int64_t bytes) {
  const int64_t pieces = (bytes + kPieceBytes - 1) / kPieceBytes;
  for_rows(pieces, kPieceBytes, [=](int64_t piece) {
    const int64_t begin = piece * kPieceBytes;
    std::memcpy(to + begin, from + begin,
                static_cast<size_t>(std::min(kPieceBytes, bytes - begin)));
  });
}

// Copies rows of `row_bytes` bytes that are `to_stride` and `from_stride` bytes apart.
void copy_rows(char* to, int64_t to_stride, const char* from, int64_t from_stride, int64_t rows,
               int64_t row_bytes) {
  if (rows <= 1 || (to_stride == row_bytes && from_stride == row_bytes))
    return copy_bytes(to, from, rows * row_bytes);
  for_rows(rows, row_bytes, [=](int64_t r) {
    std::memcpy(to + r * to_stride, from + r * from_stride, static_cast<size_t>(row_bytes));
  });
}

void add(float* to, const float* from, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

double sum_of(const float* x, int64_t begin, int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i) sum += static_cast<double>(x[i]);
  return sum;
}

// y = x by convert_array(to, from, count, dtype).
template <typename To, typename From>
void convert(const Tensor& y, const Tensor& x,
             void (*convert_array)(To*, const From*, int64_t, DType), DType dtype) {
  To* to = y.data<To>();
  const From* from = x.data<From>();
  if (y.dense() && x.dense()) {
    return for_ranges(y.numel(), [=](int64_t begin, int64_t end) {
      convert_array(to + begin, from + begin, end - begin, dtype);
    });
  }
  const int64_t to_stride = y.row_stride(), from_stride = x.row_stride(), cols = y.cols();
  for_rows(y.rows(), cols, [=](int64_t r) {
    convert_array(to + r * to_stride, from + r * from_stride, cols, dtype);
  });
}

int64_t row_bytes(const Tensor& t) { return t.cols() * size_of(t.dtype()); }
int64_t stride_bytes(const Tensor& t) { return t.row_stride() * size_of(t.dtype()); }

}  // namespace

void CpuBackend::do_fill(Tensor x, float value) {
  const Matrix m(x);
  if (m.dense()) {
    float* to = m.data;
    return for_ranges(m.rows * m.cols,
                      [=](int64_t begin, int64_t end) { std::fill(to + begin, to + end, value); });
  }
  for_rows(m.rows, m.cols, [=](int64_t r) { std::fill_n(m.row(r), m.cols, value); });
}

void CpuBackend::do_copy(Tensor y, Tensor x) {
  const bool widens = y.dtype() == DType::kF32 && is_16_bit(x.dtype());
  const bool rounds = x.dtype() == DType::kF32 && is_16_bit(y.dtype());
  if (widens) return convert<float, uint16_t>(y, x, widen, x.dtype());
  if (rounds) return convert<uint16_t, float>(y, x, round_to_16_bits, y.dtype());
  copy_rows(y.data<char>(), stride_bytes(y), x.data<char>(), stride_bytes(x), y.rows(),
            row_bytes(y));
}

void CpuBackend::do_add_accumulate(Tensor y, Tensor x) {
  const Matrix to(y), from(x);
  if (to.dense() && from.dense()) {
    return for_ranges(to.rows * to.cols, [=](int64_t begin, int64_t end) {
      add(to.data + begin, from.data + begin, end - begin);
    });
  }
  for_rows(to.rows, to.cols, [=](int64_t r) { add(to.row(r), from.row(r), to.cols); });
}

void CpuBackend::do_copy_from_host(Tensor y, const void* host) {
  copy_rows(y.data<char>(), stride_bytes(y), static_cast<const char*>(host), row_bytes(y), y.rows(),
            row_bytes(y));
}

void CpuBackend::do_copy_to_host(void* host, Tensor x) {
  copy_rows(static_cast<char*>(host), row_bytes(x), x.data<char>(), stride_bytes(x), x.rows(),
            row_bytes(x));
}

// Blocks of fixed length, then the blocks in order: the same sum for any number of threads.
double CpuBackend::do_sum(Tensor x) {
  const float* data = x.f32();
  return sum_blocks(x.numel(),
                    [=](int64_t begin, int64_t end) { return sum_of(data, begin, end); });
}

}  // namespace facet
