#include "kernels/cuda/cudnn_attention_graph.h"

#include <limits>

#include "base/check.h"

namespace facet::cuda {
namespace {

std::string text_of(const CudnnAttentionShape& shape) {
  return fmt::format(
      "attention {} in {}: {} samples of {} queries and {} keys{}, {} heads of width {}",
      shape.pass == CudnnAttentionShape::Pass::kForward ? "forward" : "backward",
      name_of(shape.dtype), shape.group.samples, shape.group.queries, shape.group.keys,
      shape.group.causal ? ", causal" : "", shape.heads, shape.width);
}

}  // namespace

CudnnAttentionGraph::CudnnAttentionGraph(const CudnnAttentionShape& shape,
                                         const CudnnTarget& target)
    : shape_(shape),
      type_(shape.dtype == DType::kBF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF),
      scale_(graph_.add_number()) {
  if (shape.group.causal) masked_score_ = graph_.add_number();
  shape.pass == CudnnAttentionShape::Pass::kForward ? build_forward() : build_backward();
  graph_.plan(target, text_of(shape));
}

// (B,H,rows,E)
int64_t CudnnAttentionGraph::add_rows(AttentionTensor tensor, int64_t rows, int64_t stride) {
  return tensors_[tensor] =
             graph_.add_tensor({shape_.group.samples, shape_.heads, rows, shape_.width},
                               {rows * stride, shape_.width, stride, 1}, type_);
}

// (B,H,E,rows): the same memory, transposed.
int64_t CudnnAttentionGraph::add_columns(AttentionTensor tensor, int64_t rows, int64_t stride) {
  return tensors_[tensor] =
             graph_.add_tensor({shape_.group.samples, shape_.heads, shape_.width, rows},
                               {rows * stride, shape_.width, 1, stride}, type_);
}

int64_t CudnnAttentionGraph::add_lse() {
  return tensors_[AttentionTensor::kLse] = graph_.add_tensor(
             per_query(), {shape_.group.queries, shape_.lse_stride, 1, 1}, CUDNN_DATA_FLOAT);
}

int64_t CudnnAttentionGraph::between(const Four& sizes) {
  return graph_.add_virtual(sizes, CUDNN_DATA_FLOAT);
}
int64_t CudnnAttentionGraph::rounded(const Four& sizes) { return graph_.add_virtual(sizes, type_); }

int64_t CudnnAttentionGraph::transposed(int64_t matrix) {
  const auto& [samples, heads, queries, keys] = per_pair();
  const int64_t result = graph_.add_transposed({samples, heads, keys, queries}, type_);
  graph_.transpose(result, matrix);
  return result;
}

// scale Q K', -infinity for keys after the query.
int64_t CudnnAttentionGraph::add_scores() {
  const int64_t product = between(per_pair()), scores = between(per_pair());
  graph_.matmul(tensors_.at(AttentionTensor::kQ), tensors_.at(AttentionTensor::kK), product);
  graph_.pointwise(CUDNN_POINTWISE_MUL, scores, product, scale_);
  if (!shape_.group.causal) return scores;
  const int64_t query = graph_.add_virtual(per_pair(), CUDNN_DATA_INT32);
  const int64_t key = graph_.add_virtual(per_pair(), CUDNN_DATA_INT32);
  const int64_t sees = graph_.add_virtual(per_pair(), CUDNN_DATA_BOOLEAN);
  const int64_t masked = between(per_pair());
  graph_.index(query, scores, 2);
  graph_.index(key, scores, 3);
  graph_.pointwise(CUDNN_POINTWISE_CMP_GE, sees, query, key);
  graph_.pointwise(CUDNN_POINTWISE_BINARY_SELECT, masked, scores, masked_score_, sees);
  return masked;
}

void CudnnAttentionGraph::build_forward() {
  using enum AttentionTensor;
  const DenseAttention& group = shape_.group;
  add_rows(kQ, group.queries, shape_.strides[0]);
  add_columns(kK, group.keys, shape_.strides[1]);
  const int64_t v = add_rows(kV, group.keys, shape_.strides[2]);
  const int64_t out = add_rows(kOut, group.queries, shape_.strides[3]);
  const int64_t lse = add_lse();

  const int64_t scores = add_scores();
  const int64_t largest = between(per_query()), sum = between(per_query());
  const int64_t log_sum = between(per_query());
  const int64_t below = between(per_pair()), exponentials = between(per_pair());
  const int64_t p = rounded(per_pair());
  graph_.reduce(CUDNN_REDUCE_TENSOR_MAX, largest, scores);
  graph_.pointwise(CUDNN_POINTWISE_SUB, below, scores, largest);
  graph_.pointwise(CUDNN_POINTWISE_EXP, exponentials, below);
  graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, sum, exponentials);
  graph_.pointwise(CUDNN_POINTWISE_LOG, log_sum, sum);
  graph_.pointwise(CUDNN_POINTWISE_ADD, lse, largest, log_sum);
  graph_.pointwise(CUDNN_POINTWISE_DIV, p, exponentials, sum);
  graph_.matmul(p, v, out);
}

void CudnnAttentionGraph::build_backward() {
  using enum AttentionTensor;
  const DenseAttention& group = shape_.group;
  const std::vector<int64_t>& strides = shape_.strides;
  const int64_t q = add_rows(kQ, group.queries, strides[0]);
  const int64_t k_transposed = add_columns(kK, group.keys, strides[1]);
  const int64_t v_transposed = add_columns(kV, group.keys, strides[2]);
  const int64_t out = add_rows(kOut, group.queries, strides[3]);
  const int64_t dout = add_rows(kDout, group.queries, strides[4]);
  const int64_t dq = add_rows(kDq, group.queries, strides[5]);
  const int64_t dk = add_rows(kDk, group.keys, strides[6]);
  const int64_t dv = add_rows(kDv, group.keys, strides[7]);
  const int64_t lse = add_lse();

  // delta = rowsum(dout * out)
  const int64_t products = between({group.samples, shape_.heads, group.queries, shape_.width});
  const int64_t delta = between(per_query());
  graph_.pointwise(CUDNN_POINTWISE_MUL, products, dout, out);
  graph_.reduce(CUDNN_REDUCE_TENSOR_ADD, delta, products);

  // P = exp(scores - lse), dv = P' dout
  const int64_t scores = add_scores();
  const int64_t below = between(per_pair()), p = between(per_pair());
  const int64_t rounded_p = rounded(per_pair());
  graph_.pointwise(CUDNN_POINTWISE_SUB, below, scores, lse);
  graph_.pointwise(CUDNN_POINTWISE_EXP, p, below);
  graph_.pointwise(CUDNN_POINTWISE_IDENTITY, rounded_p, p);
  graph_.matmul(transposed(rounded_p), dout, dv);

  // dS = scale P * (dout V' - delta), dq = dS K, dk = dS' Q
  const int64_t dp = between(per_pair()), centred = between(per_pair());
  const int64_t weighted = between(per_pair()), ds = rounded(per_pair());
  graph_.matmul(dout, v_transposed, dp);
  graph_.pointwise(CUDNN_POINTWISE_SUB, centred, dp, delta);
  graph_.pointwise(CUDNN_POINTWISE_MUL, weighted, centred, p);
  graph_.pointwise(CUDNN_POINTWISE_MUL, ds, weighted, scale_);
  const int64_t k = rounded({group.samples, shape_.heads, group.keys, shape_.width});
  graph_.transpose(k, k_transposed);
  graph_.matmul(ds, k, dq);
  graph_.matmul(transposed(ds), q, dk);
}

void CudnnAttentionGraph::run(cudnnHandle_t handle, float scale,
                              const std::map<AttentionTensor, void*>& memory,
                              void* workspace) const {
  float masked = -std::numeric_limits<float>::infinity();
  std::map<int64_t, void*> by_number = {{scale_, &scale}};
  if (shape_.group.causal) by_number[masked_score_] = &masked;
  for (const auto& [tensor, data] : memory) by_number[tensors_.at(tensor)] = data;
  graph_.run(handle, by_number, workspace);
}

}  // namespace facet::cuda
