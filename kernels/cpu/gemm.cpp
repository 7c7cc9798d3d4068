// Matrix products C = alpha op(A) op(B) + beta C by oneDNN's sgemm. It parallelises internally;
// small products run on one thread.
#include "kernels/cpu/gemm.h"

#include <oneapi/dnnl/dnnl.h>

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

// A transposed A is read by columns; if these are long, oneDNN's product drops to 2/3 of its rate,
// so the sum is split (measured at 1600 x {512..2816}: 131-155 -> 175-200 GFLOP/s per core, within
// 8 % of the matmul primitive, which would have to be created for every number of rows).
constexpr int64_t kMaxTransposedDepth = 256;

// oneDNN wakes all threads even for the smallest product. One row by 128 x 128, as in decoding,
// takes one core 1 us; two threads took 2 ms when another program occupied the second core.
class ThreadsFor {
 public:
  explicit ThreadsFor(int64_t products) : threads_(omp_get_max_threads()) {
    if (products < kParallelProducts) omp_set_num_threads(1);
  }
  ~ThreadsFor() { omp_set_num_threads(threads_); }
  ThreadsFor(const ThreadsFor&) = delete;
  ThreadsFor& operator=(const ThreadsFor&) = delete;

 private:
  int threads_;
};

// Of a thread; with fewer, packing A, which every thread does for itself, takes too long.
constexpr int64_t kFewestColumns = 64;

void scale(const Matrix& c, float beta) {
  for (int64_t r = 0; r < c.rows; ++r)
    for (int64_t i = 0; i < c.cols; ++i) c.row(r)[i] = beta == 0 ? 0 : beta * c.row(r)[i];
}

}  // namespace

void gemm(Transpose transpose_a, Transpose transpose_b, float alpha, const Matrix& a,
          const Matrix& b, float beta, const Matrix& c) {
  const bool a_transposed = transpose_a == Transpose::kYes;
  const bool b_transposed = transpose_b == Transpose::kYes;
  const int64_t depth = a_transposed ? a.rows : a.cols;
  ASSERT((a_transposed ? a.cols : a.rows) == c.rows && (b_transposed ? b.cols : b.rows) == depth &&
             (b_transposed ? b.rows : b.cols) == c.cols,
         "({}, {}){} times ({}, {}){} into ({}, {})", a.rows, a.cols, a_transposed ? "'" : "",
         b.rows, b.cols, b_transposed ? "'" : "", c.rows, c.cols);
  if (c.rows == 0 || c.cols == 0) return;
  if (depth == 0) return scale(c, beta);
  const ThreadsFor threads(c.rows * c.cols * depth);
  const int64_t step = a_transposed ? kMaxTransposedDepth : depth;
  for (int64_t begin = 0; begin < depth; begin += step) {
    const dnnl_status_t status = dnnl_sgemm(
        static_cast<char>(transpose_a), static_cast<char>(transpose_b), c.rows, c.cols,
        std::min(step, depth - begin), alpha, a_transposed ? a.row(begin) : a.data + begin,
        a.stride, b_transposed ? b.data + begin : b.row(begin), b.stride, begin == 0 ? beta : 1.0f,
        c.data, c.stride);
    ASSERT(status == dnnl_success, "oneDNN's sgemm failed with status {} at ({}, {}) depth {}",
           static_cast<int>(status), c.rows, c.cols, depth);
  }
}

void gemm_by_columns(const Matrix& a, const Matrix& b, float beta, const Matrix& c) {
  if (c.cols < kFewestColumns * omp_get_max_threads())
    return gemm(Transpose::kNo, Transpose::kYes, 1, a, b, beta, c);
#pragma omp parallel if (c.rows * b.rows * b.cols >= kParallelProducts)
  {
    const auto [begin, end] = line_range(c.cols);
    Matrix some_b = b, some_c = c;
    some_b.data = b.row(begin);
    some_c.data = c.data + begin;
    some_b.rows = some_c.cols = end - begin;
    gemm(Transpose::kNo, Transpose::kYes, 1, a, some_b, beta, some_c);
  }
}

}  // namespace facet
