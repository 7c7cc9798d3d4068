// The choice of lora_product.h's kernel: that of lora_product_hopper.cu, where the program has it.
#include "kernels/cuda/lora_product.h"

#include <stdexcept>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_product_hopper.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

template <typename Start>
void start_where_built(const Start& start) {
  if constexpr (hopper::kIsBuilt)
    start();
  else
    throw std::invalid_argument("a product with LoRA by a program that has no kernel for it");
}

}  // namespace

bool has_lora_product() { return hopper::kIsBuilt && hopper::is_hopper(); }

bool lora_product_takes(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                        std::span<const LoraPartOperands> parts) {
  constexpr int64_t kPack = gpu::Pack<gpu::bf16>::kSize;
  const auto suits = [](const Operand& x) {
    return x.cols % kPack == 0 && row_access({x}) == RowAccess::kPacked;
  };
  bool takes = is_16_bit(y_NO.dtype) && parts.size() <= kMostLoraParts && suits(y_NO) &&
               suits(x_NI) && suits(weight_OI);
  for (const LoraPartOperands& part : parts)
    takes = takes && part.begin % kPack == 0 && part.u_Nr.cols == parts[0].u_Nr.cols &&
            suits(part.u_Nr) && suits(part.right_Ir) && suits(part.left_rO) && suits(part.du_Nr);
  return takes;
}

void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale,
                          const RotationOperands& rotation, int blocks, cudaStream_t stream) {
  if (y_NO.rows == 0) return;
  start_where_built([&] {
    const bool turns = hopper::lora_product_turns(rotation, parts);
    hopper::lora_product_forward(y_NO, x_NI, weight_OI, bias_O, residual_NO, parts, scale,
                                 turns ? rotation : RotationOperands{}, blocks, stream);
    if (turns || rotation.heads == 0) return;
    Operand heads = y_NO;
    heads.cols = rotation.columns();
    rope_forward(heads, rotation.cos_NE, rotation.sin_NE, rotation.heads, stream);
  });
}

void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, std::span<const LoraPartOperands> parts,
                                 int blocks, cudaStream_t stream) {
  if (dx_NI.rows == 0) return;
  start_where_built(
      [&] { hopper::lora_product_backward_input(dx_NI, dy_NO, weight_OI, parts, blocks, stream); });
}

}  // namespace facet::cuda
