// A linear layer with LoRA as one product, on Hopper in 16 bits: y and dx are written once, and
// rounded once. The formulas of LoRA, of which u and du are computed before, are in lora.cu.
#pragma once

#include <span>

#include "device/cuda_runtime.h"
#include "kernels/cuda/operand.h"

namespace facet::cuda {

constexpr int kMostLoraParts = 3;  // of a product: q, k, v
// The adapter of columns [begin, begin + left.cols) of y. Forward reads u and left; backward reads
// right and du, as lora_backward_input() leaves it.
struct LoraPartOperands {
  int64_t begin = 0;
  Operand u_Nr, right_Ir, left_rO, du_Nr;
};

// Whether the program has the kernel and the GPU in use can run it.
bool has_lora_product();
// Whether it takes matrices like these: whole packs of 8, rows on 16-byte boundaries, at most
// kMostLoraParts parts of one rank. dy is like y, and dx like x.
bool lora_product_takes(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                        std::span<const LoraPartOperands> parts);
// By at most `blocks` blocks: y = x W' + bias + residual, plus scale u left in each part's columns;
// bias and residual may be absent, and residual may be y. The parts are in the order of their
// columns.
void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale, int blocks,
                          cudaStream_t stream);
// dx = dy W + the sum of du right' over all parts.
void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, std::span<const LoraPartOperands> parts,
                                 int blocks, cudaStream_t stream);

}  // namespace facet::cuda
