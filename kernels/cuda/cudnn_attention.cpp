// Attention by cuDNN: graphs of products, softmax and mask that it plans as one kernel each way
// (FlashAttention). The same graphs as formulas: out = P V, P = exp(scale Q K' - lse);
// dS = P * (dout V' - rowsum(dout * out)), dq = scale dS K, dk = scale dS' Q, dv = P' dout.
#include <compare>
#include <limits>
#include <map>

#include "base/check.h"
#include "device/cuda/workspace.h"
#include "kernels/cuda/attention_library.h"
#include "kernels/cuda/cudnn_attention_graph.h"

namespace facet::cuda {
namespace {

class CudnnAttention final : public AttentionLibrary {
 public:
  explicit CudnnAttention(const Stream& stream) : workspace_(stream) {
    check_cudnn(CudnnLibrary::open().create(&handle_), "start");
    check_cudnn(CudnnLibrary::open().set_stream(handle_, stream), "take a stream");
  }
  ~CudnnAttention() override { CudnnLibrary::open().destroy(handle_); }
  CudnnAttention(const CudnnAttention&) = delete;
  CudnnAttention& operator=(const CudnnAttention&) = delete;

  void forward(const Operand& out, float* lse, const AttentionInputs& in,
               const AttentionPlan& plan) override {
    for (const DenseAttention& group : dense_attention_of(plan)) {
      const CudnnAttentionShape shape =
          shape_of(CudnnAttentionShape::Pass::kForward, group, in, {out});
      using enum AttentionTensor;
      run(shape, in.scale,
          {{kQ, rows(in.q, group.query_row)},
           {kK, rows(in.k, group.key_row)},
           {kV, rows(in.v, group.key_row)},
           {kOut, rows(out, group.query_row)},
           {kLse, lse + group.query_row}});
    }
  }

  void backward(const Gradients& d, const Operand& dout, const Operand& out, float* lse,
                const AttentionInputs& in, const AttentionPlan& plan) override {
    for (const DenseAttention& group : dense_attention_of(plan)) {
      const CudnnAttentionShape shape =
          shape_of(CudnnAttentionShape::Pass::kBackward, group, in, {out, dout, d.dq, d.dk, d.dv});
      using enum AttentionTensor;
      run(shape, in.scale,
          {{kQ, rows(in.q, group.query_row)},
           {kK, rows(in.k, group.key_row)},
           {kV, rows(in.v, group.key_row)},
           {kOut, rows(out, group.query_row)},
           {kLse, lse + group.query_row},
           {kDout, rows(dout, group.query_row)},
           {kDq, rows(d.dq, group.query_row)},
           {kDk, rows(d.dk, group.key_row)},
           {kDv, rows(d.dv, group.key_row)}});
    }
  }

 private:
  static void* rows(const Operand& x, int64_t first) {
    return static_cast<char*>(x.data) + first * x.stride * size_of(x.dtype);
  }

  static CudnnAttentionShape shape_of(CudnnAttentionShape::Pass pass, DenseAttention group,
                                      const AttentionInputs& in,
                                      const std::vector<Operand>& others) {
    CHECK(is_16_bit(in.q.dtype), ExitCode::kConfig,
          "--attention cudnn computes in bf16 and fp16, not in {}", name_of(in.q.dtype));
    CHECK(in.heads == in.kv_heads, ExitCode::kConfig,
          "--attention cudnn takes as many heads of keys as of queries ({}), not {}: give "
          "--attention facet",
          in.heads, in.kv_heads);
    CudnnAttentionShape shape{pass,      group, in.q.dtype, in.heads, in.q.cols / in.heads,
                              in.q.rows, {}};
    shape.group.query_row = shape.group.key_row = 0;  // of no matter to the graph
    for (const Operand& x : {in.q, in.k, in.v}) shape.strides.push_back(x.stride);
    for (const Operand& x : others) shape.strides.push_back(x.stride);
    return shape;
  }

  void run(const CudnnAttentionShape& shape, float scale,
           const std::map<AttentionTensor, void*>& memory) {
    const CudnnAttentionGraph& graph = graph_of(shape);
    char* const workspace = workspace_.take<char>(std::max<int64_t>(1, graph.workspace_bytes()));
    graph.run(handle_, scale, memory, workspace);
  }

  const CudnnAttentionGraph& graph_of(const CudnnAttentionShape& shape) {
    if (const auto found = graphs_.find(shape); found != graphs_.end()) return *found->second;
    // Samples may be of other lengths in every batch.
    if (graphs_.size() == kMostGraphs) graphs_.clear();
    auto graph = std::make_unique<CudnnAttentionGraph>(shape, CudnnTarget{handle_, nullptr});
    return *graphs_.emplace(shape, std::move(graph)).first->second;
  }

  static constexpr size_t kMostGraphs = 512;
  cudnnHandle_t handle_ = nullptr;
  Workspace workspace_;
  std::map<CudnnAttentionShape, std::unique_ptr<CudnnAttentionGraph>> graphs_;
};

}  // namespace

std::unique_ptr<AttentionLibrary> open_cudnn(const Stream& stream) {
  return std::make_unique<CudnnAttention>(stream);
}

}  // namespace facet::cuda
