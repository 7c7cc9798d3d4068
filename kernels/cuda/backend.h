// The operators of ops/ops.h on a GPU: cuBLASLt for the large matrix products, the kernels beside
// this file for the rest. Every op is enqueued on one stream and the host goes on; only what brings
// a number to the host waits for it. Kernels take fp32, bf16 and fp16 as they are and round every
// output once.
//
// backend.cpp: memory, copies and plain vectors; backend_products.cpp, backend_layers.cpp,
// backend_attention.cpp, backend_rows.cpp, backend_optimizer.cpp: one family each.
#pragma once

#include <set>

#include "device/cuda/cuda_memory.h"
#include "device/cuda/pinned_ring.h"
#include "device/cuda/stream.h"
#include "device/cuda/workspace.h"
#include "kernels/cuda/attention_lists_cache.h"
#include "kernels/cuda/linear.h"
#include "ops/ops.h"

namespace facet {

// Memory that a CudaBackend takes for itself when it is made.
struct CudaBackendSizes {
  int64_t ring_bytes = int64_t{64} << 20;  // page-locked on the host, for copies to the device
  size_t product_workspace_bytes = cuda::LinearProducts::kWorkspaceBytes;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendSizes& sizes = {});

  MemoryResource& memory() override { return memory_; }
  const Stream& stream() const { return stream_; }
  // Waits until every op so far is done.
  void synchronize() { stream_.synchronize(); }
  // Work lists of attention that were made and uploaded.
  int64_t attention_uploads() const { return attention_lists_.uploads(); }

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
  // Say once a shape, for 16 bits, that it has no kernel on tensor cores.
  void warn_of_plain_attention(const Tensor& q, int64_t heads);
  void warn_of_plain_lora(int64_t rank);
  // Brings a number to the host, which waits for it.
  void fetch(void* host, const void* device, size_t bytes);

  // Destroyed in reverse order: what works on the stream goes before it.
  Stream stream_;
  CudaMemory memory_{stream_};
  PinnedRing ring_;
  cuda::LinearProducts products_;
  cuda::AttentionListsCache attention_lists_{stream_, ring_};
  Workspace attention_delta_{stream_};
  Workspace reduction_{stream_};                  // of sum() and gradient_statistics()
  std::set<int64_t> plain_widths_, plain_ranks_;  // that were warned of
};

}  // namespace facet
