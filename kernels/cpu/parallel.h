// How work is divided among threads. All schedules are static, so the same thread does the same
// part of the same problem; small problems stay on one thread, since waking the others costs
// microseconds.
//
// g++ 12 does not vectorise a sum over pointers captured by a lambda (it does vectorise copies of
// the pointers and loops without a sum): make it a separate function.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace facet {

constexpr int64_t kParallelElements = 16384;  // below, one core is done before two have started
constexpr int64_t kParallelProducts = int64_t{1} << 19;  // the same in multiply-adds
constexpr int64_t kLineFloats = 16;                      // a cache line, to avoid false sharing

struct Range {
  int64_t begin, end;
};

// This thread's share of n floats, in whole cache lines. Inside a parallel region.
inline Range line_range(int64_t n) {
  const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
  const int64_t lines = (n + kLineFloats - 1) / kLineFloats;
  return {std::min(n, lines * thread / threads * kLineFloats),
          std::min(n, lines * (thread + 1) / threads * kLineFloats)};
}

// body(row) for every row; rows are independent.
template <typename Body>
void for_rows(int64_t rows, int64_t cols, const Body& body) {
#pragma omp parallel for schedule(static) if (rows * cols >= kParallelElements)
  for (int64_t r = 0; r < rows; ++r) body(r);
}

// body(begin, end): every thread gets one range of n elements, whole cache lines. (A body of one
// element in a `parallel for simd` is not vectorised by g++ 12.)
template <typename Body>
void for_ranges(int64_t n, const Body& body) {
#pragma omp parallel if (n >= kParallelElements)
  {
    const auto [begin, end] = line_range(n);
    if (begin < end) body(begin, end);
  }
}

// body(thread, begin, end): every thread gets one range of the rows, in order.
template <typename Body>
void for_row_ranges(int64_t rows, int64_t cols, const Body& body) {
#pragma omp parallel if (rows * cols >= kParallelElements)
  {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    body(thread, rows * thread / threads, rows * (thread + 1) / threads);
  }
}

// body(begin, end): every thread gets one range of the columns and goes through all rows itself, so
// that sums over rows need no partial sums and are the same for any number of threads.
template <typename Body>
void for_column_ranges(int64_t rows, int64_t cols, const Body& body) {
#pragma omp parallel if (rows * cols >= kParallelElements)
  {
    const auto [begin, end] = line_range(cols);
    if (begin < end) body(begin, end);
  }
}

}  // namespace facet
