// The operators of ops/ops.h on a GPU: cuBLASLt for the large matrix products, the kernels beside
// this file for the rest. Every op is enqueued on one stream and the host goes on; only what brings
// a number to the host waits for it. Kernels take fp32, bf16 and fp16 as they are and round every
// output once.
//
// backend.cpp: memory, copies and plain vectors; backend_products.cpp, backend_layers.cpp,
// backend_attention.cpp, backend_rows.cpp, backend_optimizer.cpp: one family each.
#pragma once

#include <memory>
#include <set>
#include <vector>

#include "device/cuda/cuda_memory.h"
#include "device/cuda/pinned_inbox.h"
#include "device/cuda/pinned_ring.h"
#include "device/cuda/side_stream.h"
#include "device/cuda/stream.h"
#include "device/cuda/upload_stream.h"
#include "device/cuda/workspace.h"
#include "kernels/cuda/attention_library.h"
#include "kernels/cuda/attention_lists_cache.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/linear.h"
#include "ops/ops.h"

namespace facet {

// Memory that a CudaBackend takes for itself when it is made.
struct CudaBackendSizes {
  // Page-locked on the host, for copies to the device: in the order of the operators, and beside
  // them.
  int64_t ring_bytes = int64_t{64} << 20, upload_bytes = int64_t{64} << 20;
  size_t product_workspace_bytes = cuda::LinearProducts::kWorkspaceBytes;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendSizes& sizes = {});

  MemoryResource& memory() override { return memory_; }
  MemoryResource& input_memory() override { return input_memory_; }
  int next_inputs() override { return uploads_.next(input_turns_); }
  void copy_input(Tensor y, const void* host) override;
  void copy_to_host_later(void* host, Tensor x) override;
  void finish_copies() override { inbox_.deliver(); }
  void drop_copies() override { inbox_.drop(); }
  const Stream& stream() const { return stream_; }
  // Waits until every op so far is done.
  void synchronize() { stream_.synchronize(); }
  // From here on attention is computed by cuDNN. Throws Error(kConfig) where it is not there.
  void take_cudnn() { attention_library_ = cuda::open_cudnn(stream_); }
  // From here on attention's backward has one kernel for dq, dk and dv where that takes the call,
  // or no longer; a warning says where it does not. Throws Error(kConfig) where the GPU or the
  // program has no such kernel.
  void join_attention(bool joins);
  // From here on lora_linear_forward() and lora_linear_backward_input() have one product for y and
  // dx, and operators that are given LoRA's first product compute it in one pass where they can; or
  // no longer. Throws Error(kConfig) where the GPU or the program has no kernel for it; so do the
  // two for what that takes no matrices of.
  void join_lora(bool joins);
  // From here on the choices of products() say which of the two computes a layer with LoRA, where
  // both can; where they cannot it is computed apart, with a warning if the GPU or the program is
  // the reason. And whether LoRA's first product is computed where its input is made.
  void choose_lora();
  // Times products from here on until choices are taken: each of cuBLASLt's algorithms, if asked
  // to, and the two ways of layers with LoRA, after choose_lora().
  void time_products(bool algorithms);
  bool takes_lora_downs() const override { return joins_lora_ || chooses_downs_; }
  // How products are computed.
  cuda::LinearProducts& products() { return products_; }
  // Work lists of attention that were made and uploaded.
  int64_t attention_uploads() const { return attention_lists_.uploads() + decode_lists_.uploads(); }

 private:
  FACET_OPERATORS(FACET_OVERRIDE_OPERATOR)

  // Say once a shape, for 16 bits, that it has no kernel on tensor cores.
  void warn_of_plain_attention(const Tensor& q, int64_t heads);
  void warn_of_plain_backward(const Tensor& q, int64_t heads);
  void warn_of_plain_lora(int64_t rank);
  // The same of a backward pass that --attention_backward joint does not compute.
  void warn_of_separate_backward(int64_t width, const cuda::AttentionLists& lists);
  cuda::AttentionLists attention_lists(const AttentionPlan& plan, int64_t heads, int64_t kv_heads);
  cuda::JointWorkspace joint_workspace(const Tensor& q, const cuda::AttentionLists& lists,
                                       int64_t heads);
  // LoRA's part of lora_linear_forward() and lora_linear_backward_input(). Without y or dx it
  // leaves u or du alone; they may have values to be added to.
  void add_lora(Tensor y, Tensor addend, Tensor x, std::span<const LoraPart> parts, float scale);
  // LoRA's first products of x alone.
  void compute_downs(const Tensor& x, std::span<const LoraDown> downs);
  void add_lora_backward(Tensor dx, Tensor addend, Tensor dy, std::span<const LoraPart> parts,
                         float scale);
  // Computes LoRA and what it is a part of in the way that was chosen for it, or times both and
  // chooses.
  template <typename Key, typename Fused, typename Separate>
  void run_chosen(const Key& key, const Fused& fused, const Separate& separate);
  // Attention for a plan with few queries. Returns false if its kernels do not take the matrices.
  bool decode_attention(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k, Tensor v,
                        const AttentionPlan& plan, int64_t heads, int64_t kv_heads, float scale);
  // Brings a number to the host, which waits for it.
  void fetch(void* host, const void* device, size_t bytes);

  // Destroyed in reverse order: what works on the stream goes before it.
  Stream stream_;
  CudaMemory memory_{stream_};
  PinnedRing ring_;
  UploadStream uploads_;
  UploadTurns input_turns_;
  CudaMemory input_memory_{uploads_.stream()};
  PinnedInbox inbox_{stream_, int64_t{1} << 20};
  cuda::LinearProducts products_;
  cuda::AttentionListsCache attention_lists_{uploads_};
  cuda::DecodeListsCache decode_lists_{uploads_};
  std::unique_ptr<cuda::AttentionLibrary> attention_library_;  // null: the kernels here
  SideStream attention_side_;                                  // of attention's backward
  const int multiprocessors_;
  bool joins_attention_ = false;
  bool joins_lora_ = false;
  bool chooses_lora_ = false, chooses_downs_ = false;  // layers, and their first products
  Workspace attention_delta_{stream_};
  Workspace attention_partials_{stream_};                     // of decode_attention()
  Workspace joint_sums_{stream_, Workspace::Growth::kExact};  // of attention's backward
  Workspace joint_counters_{stream_};
  Workspace lora_sums_{stream_, Workspace::Growth::kExact};  // of add_lora_backward()
  Workspace splice_{stream_};                                // of splice_backward()
  Workspace reduction_{stream_};                             // of sum() and gradient_statistics()
  Workspace gradient_vectors_{stream_};  // on the device, what gradients_ is on the host
  std::vector<cuda::GradientVector> gradients_;
  std::vector<cuda::GradientPart> gradient_results_;
  std::set<int64_t> plain_widths_, plain_ranks_, separate_widths_;  // that were warned of
};

}  // namespace facet
