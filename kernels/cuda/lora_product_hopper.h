// A linear layer with LoRA as one product on Hopper's tensor cores: the adapters are further terms
// of its sums.
#pragma once

#include "kernels/cuda/lora_product.h"

namespace facet::cuda::hopper {

// A build for other GPUs alone leaves the kernel out (kernels/cuda.mk).
#if defined(FACET_HOPPER) || defined(FACET_EMULATED)
constexpr bool kHasLoraProduct = true;
#else
constexpr bool kHasLoraProduct = false;
#endif

// As the functions of lora_product.h, by at most that many blocks, for operands that
// lora_product_takes().
void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale, int blocks,
                          cudaStream_t stream);
void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, const Operand& residual_NI,
                                 std::span<const LoraPartOperands> parts, int blocks,
                                 cudaStream_t stream);

}  // namespace facet::cuda::hopper
