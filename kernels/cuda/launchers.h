// The operators of ops/ops.h as kernel launches: outputs, inputs, scalars, stream. The formulas
// stand there; here a matrix is an Operand, and parameter gradients and statistics are dense fp32
// vectors. Absent operands have null data. Every matrix of one call is of one type: fp32, bf16 or
// fp16.
#pragma once

#include "device/cuda_runtime.h"
#include "kernels/cuda/operand.h"

namespace facet::cuda {

// ---- norms
void rms_norm_forward(Operand y_ND, float* rstd_N, Operand x_ND, Operand weight_D, float eps,
                      cudaStream_t stream);
void rms_norm_backward(Operand dx_ND, float* dweight_D, Operand dy_ND, Operand x_ND,
                       Operand weight_D, const float* rstd_N, Operand dresidual_ND,
                       cudaStream_t stream);
void layer_norm_forward(Operand y_ND, float* mean_N, float* rstd_N, Operand x_ND, Operand weight_D,
                        Operand bias_D, float eps, cudaStream_t stream);
void layer_norm_backward(Operand dx_ND, float* dweight_D, float* dbias_D, Operand dy_ND,
                         Operand x_ND, Operand weight_D, const float* mean_N, const float* rstd_N,
                         Operand dresidual_ND, cudaStream_t stream);

// ---- token-wise activations
void swiglu_forward(Operand act_NF, Operand gate_up_N2F, cudaStream_t stream);
void swiglu_backward(Operand dgate_up_N2F, Operand dact_NF, Operand gate_up_N2F,
                     cudaStream_t stream);
void quick_gelu_forward(Operand y_NF, Operand x_NF, cudaStream_t stream);
void quick_gelu_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream);
void gelu_forward(Operand y_NF, Operand x_NF, cudaStream_t stream);
void gelu_backward(Operand dx_NF, Operand dy_NF, Operand x_NF, cudaStream_t stream);

// ---- rotary embedding, in place; cos, sin (N,E/2) fp32
void rope_forward(Operand x_ND, Operand cos_NE, Operand sin_NE, int64_t heads, cudaStream_t stream);
void rope_backward(Operand dx_ND, Operand cos_NE, Operand sin_NE, int64_t heads,
                   cudaStream_t stream);

}  // namespace facet::cuda
