#include "kernels/cpu/attention_task.h"

#include <memory>

#include "base/check.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/parallel.h"

namespace facet::attention {

bool worth_threads(const Tensor& q, int64_t keys) {
  return 2 * q.numel() * keys >= kParallelProducts;
}

int64_t most_keys(const AttentionPlan& plan) {
  int64_t most = 1;
  for (const AttentionPart& part : plan.parts) most = std::max(most, part.num_keys);
  return most;
}

Shape check_shapes(const AttentionPlan& plan, const Tensor& q, const Tensor& k, const Tensor& v,
                   const Tensor& out_image, int64_t heads, int64_t kv_heads, float scale) {
  ASSERT(kv_heads > 0 && heads % kv_heads == 0, "{} heads over {} key/value heads", heads,
         kv_heads);
  ASSERT(q.cols() % heads == 0, "q has {} columns for {} heads", q.cols(), heads);
  const int64_t width = q.cols() / heads;
  ASSERT(k.cols() == kv_heads * width && v.cols() == k.cols() && v.rows() == k.rows(),
         "k {} and v {} do not match heads of {}", k.shape_string(), v.shape_string(), width);
  ASSERT(out_image.defined() == (plan.num_slots == 2), "out_image with {} slots", plan.num_slots);
  ASSERT(scale > 0, "scale {} is not positive", scale);
  int64_t query_rows = 0, key_rows = 0;
  for (const AttentionSample& sample : plan.samples) {
    query_rows += sample.num_query_rows;
    key_rows += sample.num_key_rows;
  }
  ASSERT(query_rows == q.rows() && key_rows == k.rows(),
         "the plan has {} query and {} key rows, q {} and k {}", query_rows, key_rows,
         q.shape_string(), k.shape_string());
  return {heads, kv_heads, width, q.rows(), scale};
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
  product.mode = tile.begin == 0 ? Product::Mode::kSet : Product::Mode::kAdd;
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
