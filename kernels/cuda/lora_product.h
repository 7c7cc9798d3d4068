// A linear layer with LoRA as one product, on Hopper in 16 bits, and what LoRA needs beside it. y
// and dx are written once, and rounded once. The formulas of LoRA are in launchers.h and lora.cu.
#pragma once

#include <span>

#include "device/cuda_runtime.h"
#include "kernels/cuda/operand.h"

namespace facet::cuda {

// u = x right
void lora_narrow_forward(Operand u_Nr, Operand x_NI, Operand right_Ir, cudaStream_t stream);
// As lora_backward_accumulate() without dx: du, dright and dleft, of which the last two may be
// absent.
void lora_narrow_backward(Operand dright_Ir, Operand dleft_rO, Operand du_Nr, Operand dy_NO,
                          Operand x_NI, Operand u_Nr, Operand right_Ir, Operand left_rO,
                          float scale, cudaStream_t stream);

constexpr int kMostLoraParts = 3;  // of a product: q, k, v
// The adapter of columns [begin, begin + left.cols) of y. Forward reads u and left; backward reads
// right and du, as lora_narrow_backward() left it.
struct LoraPartOperands {
  int64_t begin = 0;
  Operand u_Nr, right_Ir, left_rO, du_Nr;
};

// Whether the program has the kernel and the GPU in use can run it.
bool has_lora_product();
// Whether it takes matrices like these: whole packs of 8, rows on 16-byte boundaries, at most
// kMostLoraParts parts. dy is like y, and dx like x.
bool lora_product_takes(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                        std::span<const LoraPartOperands> parts);
// y = x W' + bias + residual, plus scale u left in each part's columns; bias and residual may be
// absent, and residual may be y. The parts are in the order of their columns.
void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale,
                          cudaStream_t stream);
// dx = dy W + residual + the sum of du right' over all parts; residual may be absent, or dx.
void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, const Operand& residual_NI,
                                 std::span<const LoraPartOperands> parts, cudaStream_t stream);

}  // namespace facet::cuda
