#include "ops/ops.h"

#include "base/check.h"

namespace facet {
namespace {

// (query, key) pairs that have a score; a row that only adds its own value has none.
int64_t visible_pairs(const AttentionPlan& plan) {
  int64_t pairs = 0;
  for (const int32_t visible : plan.visible_keys) pairs += visible;
  return pairs;
}

}  // namespace

void Backend::count_linear(int64_t rows, int64_t inputs, int64_t outputs) {
  ++counts_.calls;
  counts_.matmul_flops += 2 * rows * inputs * outputs;
}

void Backend::count_lora_forward(int64_t rows, const Tensor& right, const Tensor& left) {
  ++counts_.calls;
  counts_.matmul_flops += 2 * rows * (right.numel() + left.numel());
}

// du and dleft cost as much as the left product, dright and dx as the right one.
void Backend::count_lora_backward(int64_t rows, const Tensor& right, const Tensor& left,
                                  const Tensor& dx, const Tensor& dright, const Tensor& dleft) {
  const int64_t left_products = dleft.defined() ? 2 : 1;
  const int64_t right_products = (dx.defined() ? 1 : 0) + (dright.defined() ? 1 : 0);
  ++counts_.calls;
  counts_.matmul_flops +=
      2 * rows * (left_products * left.numel() + right_products * right.numel());
}

void Backend::count_attention_forward(const AttentionPlan& plan, const Tensor& q, int64_t heads) {
  ++counts_.calls;
  counts_.attention_flops += 4 * (q.cols() / heads) * heads * visible_pairs(plan);
  counts_.attention_query_rows += q.rows();
}

void Backend::count_attention_backward(const AttentionPlan& plan, const Tensor& q, int64_t heads) {
  ++counts_.calls;
  counts_.attention_flops += 10 * (q.cols() / heads) * heads * visible_pairs(plan);
}

void Backend::check_attention(const AttentionPlan& plan, const Tensor& q, const Tensor& k,
                              const Tensor& v, const Tensor& out_image, int64_t heads,
                              int64_t kv_heads, float scale) {
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
}

}  // namespace facet
