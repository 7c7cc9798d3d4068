#include "base/check.h"
#include "kernels/cpu/backend.h"

namespace facet {

void CpuBackend::attention_forward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                   const AttentionPlan&, int64_t, int64_t, float) {
  fail(ExitCode::kInternal, "attention is not built yet");
}

void CpuBackend::attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                                    Tensor, Tensor, const AttentionPlan&, int64_t, int64_t, float) {
  fail(ExitCode::kInternal, "attention is not built yet");
}

}  // namespace facet
