// A linear layer with LoRA as one product on Hopper's tensor cores: the adapters are further terms
// of its sums.
#pragma once

#include "kernels/cuda/lora_product.h"

namespace facet::cuda::hopper {

// Whether forward turns these heads where it stores them.
bool lora_product_turns(const RotationOperands& rotation, std::span<const LoraPartOperands> parts);
// As the functions of lora_product.h, for operands that lora_product_takes() and a rotation that
// lora_product_turns(), or none.
void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale,
                          const RotationOperands& rotation, int blocks, cudaStream_t stream);
void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, std::span<const LoraPartOperands> parts,
                                 int blocks, cudaStream_t stream);

}  // namespace facet::cuda::hopper
