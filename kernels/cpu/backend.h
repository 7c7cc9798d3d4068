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

  void linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual) override;
  void linear_backward_input(Tensor dx, Tensor dy, Tensor weight) override;
  void linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) override;
  void linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) override;
  void lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                               float scale) override;
  void lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du, Tensor dy,
                                Tensor x, Tensor u, Tensor right, Tensor left,
                                float scale) override;
  void rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps) override;
  void rms_norm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                         Tensor dresidual) override;
  void layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight, Tensor bias,
                          float eps) override;
  void layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                           Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual) override;
  void swiglu_forward(Tensor act, Tensor gate_up) override;
  void swiglu_backward(Tensor dgate_up, Tensor dact, Tensor gate_up) override;
  void gelu_forward(Tensor y, Tensor x, Activation activation) override;
  void gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) override;
  void rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) override;
  void rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) override;
  void attention_forward(Tensor out, Tensor lse, Tensor out_image, Tensor q, Tensor k, Tensor v,
                         const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                         float scale) override;
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                          Tensor v, Tensor out, Tensor out_image, Tensor lse,
                          const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                          float scale) override;
  void splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) override;
  void splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) override;
  void gather_rows_forward(Tensor y, Tensor x, Tensor index) override;
  void gather_rows_backward(Tensor dx, Tensor dy, Tensor index) override;
  void repeat_rows_forward(Tensor y, Tensor x, int64_t copies) override;
  void repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) override;
  void add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) override;
  void add_repeated_rows_backward(Tensor drows, Tensor dy) override;
  void patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) override;
  void vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                            Tensor position) override;
  void vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx) override;
  void resize_positions_forward(Tensor out, Tensor in) override;
  void resize_positions_backward_accumulate(Tensor din, Tensor dout) override;
  void cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) override;
  void cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                      float gradient_scale) override;
  void fill(Tensor x, float value) override;
  void copy(Tensor y, Tensor x) override;
  void add_accumulate(Tensor y, Tensor x) override;
  void sum_rows(Tensor y, Tensor x) override;
  void sum_rows_accumulate(Tensor y, Tensor x) override;
  void copy_from_host(Tensor y, const void* host) override;
  void copy_to_host(void* host, Tensor x) override;
  double sum(Tensor x) override;
  void adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy, Tensor grad,
                  const AdamWStep& step) override;
  GradientStatistics gradient_statistics(Tensor grad) override;

 private:
  ColumnSums column_sums(int64_t cols);
  // total[c] += sum of column c.
  void add_column_sums(float* total, const Matrix& x);
  // The sum of sum_range(begin, end) over blocks of fixed length in [0, n), added in order: the
  // same for any number of threads.
  template <typename SumRange>
  double sum_blocks(int64_t n, const SumRange& sum_range);
  // At least `floats` floats a thread, 64-byte aligned; thread t has those from t * floats on.
  float* attention_scratch(int64_t floats);

  int threads_;
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
