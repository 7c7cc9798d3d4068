// Attention by a library instead of the kernels beside this file (--attention cudnn): for plans
// that dense_attention.h takes, bf16 and fp16, and as many heads of keys as of queries.
#pragma once

#include <memory>

#include "device/cuda/stream.h"
#include "kernels/cuda/operand.h"
#include "ops/attention_plan.h"

namespace facet::cuda {

// The operands of ops/ops.h, attention_forward and attention_backward.
struct AttentionInputs {
  Operand q, k, v;  // (Nq,H*E), (Nk,H*E)
  int64_t heads, kv_heads;
  float scale;
};

class AttentionLibrary {
 public:
  virtual ~AttentionLibrary() = default;

  // out (Nq,H*E), lse (H,Nq). Throws Error(kConfig) where the library has no kernel for it.
  virtual void forward(const Operand& out, float* lse, const AttentionInputs& in,
                       const AttentionPlan& plan) = 0;
  // dq (Nq,H*E), dk, dv (Nk,H*E) from what forward() wrote.
  struct Gradients {
    Operand dq, dk, dv;
  };
  virtual void backward(const Gradients& gradients, const Operand& dout, const Operand& out,
                        float* lse, const AttentionInputs& in, const AttentionPlan& plan) = 0;
};

// cuDNN's, which works on `stream`. Throws Error(kConfig) where the program was built without it,
// or cuDNN is not on this machine.
std::unique_ptr<AttentionLibrary> open_cudnn(const Stream& stream);

}  // namespace facet::cuda
