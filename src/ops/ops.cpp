#include "ops/ops.h"

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

}  // namespace facet
