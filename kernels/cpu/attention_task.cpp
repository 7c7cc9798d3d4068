// The products of attention on tiles, and the scratch memory of the threads; see attention_task.h.
#include "kernels/cpu/attention_task.h"

#include <memory>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/parallel.h"

namespace facet::attention {

bool worth_threads(const Tensor& q, int64_t keys) {
  return 2 * q.numel() * keys >= kParallelProducts / 4;  // which read as much as they multiply
}

int64_t most_keys(const AttentionPlan& plan) {
  int64_t most = 1;
  for (const AttentionPart& part : plan.parts) most = std::max(most, part.num_keys);
  return most;
}

Shape shape_of(const Tensor& q, int64_t heads, int64_t kv_heads, float scale) {
  return {heads, kv_heads, q.cols() / heads, q.rows(), scale};
}

void multiply_by_tile(float* scores, const float* rows, const float* transposed, const Tile& tile,
                      int64_t num_rows, int64_t width) {
  Product product;
  product.c = scores;
  product.c_row = kScoreStride;
  product.a = rows;
  product.a_row = padded(width);
  product.a_k = 1;
  product.b = transposed + tile.begin * width;
  product.b_panel = width * kLanes;
  product.b_row = kLanes;
  product.rows = num_rows;
  product.columns = tile.keys;
  product.k = width;
  product.column_end = tile.visible;
  multiply(product);
}

void add_weighted_rows(float* sums, const float* weights, const float* rows, const Tile& tile,
                       int64_t num_rows, int64_t width) {
  Product product;
  product.c = sums;
  product.c_row = padded(width);
  product.a = weights;
  product.a_row = kScoreStride;
  product.a_k = 1;
  product.b = rows + tile.begin * padded(width);
  product.b_panel = kLanes;
  product.b_row = padded(width);
  product.rows = num_rows;
  product.columns = width;
  product.k = tile.keys;
  product.k_end = tile.visible;
  product.mode = tile.is_first ? Product::Mode::kSet : Product::Mode::kAdd;
  multiply(product);
}

}  // namespace facet::attention

namespace facet {

float* CpuBackend::attention_scratch(int64_t floats) {
  const size_t needed = static_cast<size_t>(floats * threads_ + attention::kLanes);
  if (attention_scratch_.size() < needed) attention_scratch_.resize(needed);
  void* aligned = attention_scratch_.data();
  size_t space = attention_scratch_.size() * sizeof(float);
  return static_cast<float*>(std::align(64, sizeof(float), aligned, space));
}

}  // namespace facet
