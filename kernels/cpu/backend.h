// The operators of ops/ops.h on the host: oneDNN for matrix products, OpenMP and `omp simd` loops
// for the rest. One .cpp per op, with the op's name.
//
// Work is cut over threads by static schedules, and sums over rows are made per thread and added in
// thread order: equal inputs and an equal number of threads give equal bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"
#include "ops/ops.h"

namespace facet {

// Sums over rows: every thread adds its rows to a row of its own, then the rows are added in order.
struct ColumnSums {
  float* data;  // (threads, cols), zero at first
  int64_t threads, cols, stride;

  float* of_thread(int64_t thread) const { return data + thread * stride; }
  // total[c] += the sum of columns begin + c, c < count.
  void add_to(float* total, int64_t begin, int64_t count) const;
};

class CpuBackend final : public Backend {
 public:
  // `threads` >= 1 OpenMP threads for every op of this process.
  explicit CpuBackend(int threads);

  int threads() const { return threads_; }
  void set_decoding(bool decodes) override { decodes_ = decodes; }

 private:
  FACET_OPERATORS(FACET_OVERRIDE_OPERATOR)

  static void compute_downs(const Tensor& x, std::span<const LoraDown> downs);
  ColumnSums column_sums(int64_t cols);
  // total[c] += sum of column c.
  void add_column_sums(float* total, const Matrix& x);
  // The sum of sum_range(begin, end) over blocks of fixed length in [0, n), added in order: the
  // same for any number of threads.
  template <typename SumRange>
  double sum_blocks(int64_t n, const SumRange& sum_range);
  GradientStatistics statistics_of(const Tensor& grad);
  // At least `floats` floats a thread, 64-byte aligned; thread t has those from t * floats on.
  float* attention_scratch(int64_t floats);

  int threads_;
  bool decodes_ = false;
  // Reused between calls, so that a training step allocates nothing once they have grown.
  std::vector<float> partials_;     // of column_sums()
  std::vector<double> block_sums_;  // of sum() and gradient_statistics()
  std::vector<float> attention_scratch_;
};

template <typename SumRange>
double CpuBackend::sum_blocks(int64_t n, const SumRange& sum_range) {
  constexpr int64_t kBlock = 4096;
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  block_sums_.resize(static_cast<size_t>(blocks));
  double* sums = block_sums_.data();
  for_rows(blocks, kBlock, [=](int64_t block) {
    sums[block] = sum_range(block * kBlock, std::min(n, (block + 1) * kBlock));
  });
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) total += sums[block];
  return total;
}

}  // namespace facet
