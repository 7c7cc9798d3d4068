// The graphs of attention for cuDNN: forward and backward of dense samples of one shape.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <vector>

#include "base/dtype.h"
#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/dense_attention.h"

namespace facet::cuda {

// What a graph is made for.
struct CudnnAttentionShape {
  enum class Pass : uint8_t { kForward, kBackward } pass;
  DenseAttention group;  // rows of no matter
  DType dtype;
  int64_t heads, width;          // H, E
  int64_t lse_stride;            // elements from one head's lse to the next
  std::vector<int64_t> strides;  // of rows: q, k, v, out; backward: dout, dq, dk, dv too

  auto operator<=>(const CudnnAttentionShape&) const = default;
};

enum class AttentionTensor : uint8_t { kQ, kK, kV, kOut, kLse, kDout, kDq, kDk, kDv };

class CudnnAttentionGraph {
 public:
  // Throws Error(kConfig) where cuDNN has no kernel for it.
  CudnnAttentionGraph(const CudnnAttentionShape& shape, const CudnnTarget& target);

  int64_t workspace_bytes() const { return graph_.workspace_bytes(); }
  // The first sample's rows of each tensor.
  void run(cudnnHandle_t handle, float scale, const std::map<AttentionTensor, void*>& memory,
           void* workspace) const;

 private:
  using Four = CudnnGraph::Four;

  void build_forward();
  void build_backward();
  int64_t add_rows(AttentionTensor tensor, int64_t rows, int64_t stride);
  int64_t add_columns(AttentionTensor tensor, int64_t rows, int64_t stride);
  int64_t add_lse();
  int64_t add_scores();
  int64_t between(const Four& sizes);
  int64_t rounded(const Four& sizes);
  int64_t transposed(int64_t matrix);
  Four per_pair() const {
    return {shape_.group.samples, shape_.heads, shape_.group.queries, shape_.group.keys};
  }
  Four per_query() const { return {shape_.group.samples, shape_.heads, shape_.group.queries, 1}; }

  CudnnAttentionShape shape_;
  cudnnDataType_t type_;
  CudnnGraph graph_;
  std::map<AttentionTensor, int64_t> tensors_;
  int64_t scale_, masked_score_ = -1;
};

}  // namespace facet::cuda
