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

struct Product {
  Transpose transpose_a, transpose_b;
  float alpha;
  Matrix a, b;
  float beta;
  Matrix c;

  bool a_transposed() const { return transpose_a == Transpose::kYes; }
  bool b_transposed() const { return transpose_b == Transpose::kYes; }
  int64_t depth() const { return a_transposed() ? a.rows : a.cols; }
};

void check_shapes(const Product& p) {
  const Matrix &a = p.a, &b = p.b, &c = p.c;
  ASSERT((p.a_transposed() ? a.cols : a.rows) == c.rows &&
             (p.b_transposed() ? b.cols : b.rows) == p.depth() &&
             (p.b_transposed() ? b.rows : b.cols) == c.cols,
         "({}, {}){} times ({}, {}){} into ({}, {})", a.rows, a.cols, p.a_transposed() ? "'" : "",
         b.rows, b.cols, p.b_transposed() ? "'" : "", c.rows, c.cols);
}

void check_status(dnnl_status_t status, const Product& p) {
  ASSERT(status == dnnl_success, "oneDNN's sgemm failed with status {} at ({}, {}) depth {}",
         static_cast<int>(status), p.c.rows, p.c.cols, p.depth());
}

// Throws nothing, for parallel regions, which an exception must not leave.
dnnl_status_t multiply(const Product& p) noexcept {
  const int64_t depth = p.depth();
  if (p.c.rows == 0 || p.c.cols == 0) return dnnl_success;
  if (depth == 0) return scale(p.c, p.beta), dnnl_success;
  const ThreadsFor threads(p.c.rows * p.c.cols * depth);
  const int64_t step = p.a_transposed() ? kMaxTransposedDepth : depth;
  dnnl_status_t status = dnnl_success;
  for (int64_t begin = 0; begin < depth && status == dnnl_success; begin += step)
    status = dnnl_sgemm(static_cast<char>(p.transpose_a), static_cast<char>(p.transpose_b),
                        p.c.rows, p.c.cols, std::min(step, depth - begin), p.alpha,
                        p.a_transposed() ? p.a.row(begin) : p.a.data + begin, p.a.stride,
                        p.b_transposed() ? p.b.data + begin : p.b.row(begin), p.b.stride,
                        begin == 0 ? p.beta : 1.0f, p.c.data, p.c.stride);
  return status;
}

}  // namespace

void gemm(Transpose transpose_a, Transpose transpose_b, float alpha, const Matrix& a,
          const Matrix& b, float beta, const Matrix& c) {
  const Product product{transpose_a, transpose_b, alpha, a, b, beta, c};
  check_shapes(product);
  check_status(multiply(product), product);
}

void gemm_by_columns(const Matrix& a, const Matrix& b, float beta, const Matrix& c) {
  const Product whole{Transpose::kNo, Transpose::kYes, 1, a, b, beta, c};
  check_shapes(whole);
  if (c.cols < kFewestColumns * omp_get_max_threads()) return check_status(multiply(whole), whole);
  dnnl_status_t status = dnnl_success;  // of a thread that fails, if one does
#pragma omp parallel if (c.rows * b.rows * b.cols >= kParallelProducts)
  {
    const auto [begin, end] = line_range(c.cols);
    Product mine = whole;
    mine.b.data = b.row(begin);
    mine.c.data = c.data + begin;
    mine.b.rows = mine.c.cols = end - begin;
    if (const dnnl_status_t of_mine = multiply(mine); of_mine != dnnl_success) {
#pragma omp atomic write
      status = of_mine;
    }
  }
  check_status(status, whole);
}

}  // namespace facet
