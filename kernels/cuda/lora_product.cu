// The choice of lora_product.h's kernel: that of lora_product_hopper.cu, where the program has it.
#include "kernels/cuda/lora_product.h"

#include <stdexcept>

#include "kernels/cuda/lora_product_hopper.h"
#include "kernels/cuda/rows.h"

namespace facet::cuda {
namespace {

// 0 if it is not known.
int attribute(cudaDeviceAttr of_gpu) {
  int gpu = 0, value = 0;
  const bool is_known = cudaGetDevice(&gpu) == cudaSuccess &&
                        cudaDeviceGetAttribute(&value, of_gpu, gpu) == cudaSuccess;
  return is_known ? value : 0;
}

// A block stays on its multiprocessor.
template <typename Start>
void start_on_all(const Start& start) {
  if constexpr (hopper::kHasLoraProduct)
    start(attribute(cudaDevAttrMultiProcessorCount));
  else
    throw std::invalid_argument("a product with LoRA by a program that has no kernel for it");
}

}  // namespace

bool has_lora_product() {
  return hopper::kHasLoraProduct && attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         attribute(cudaDevAttrComputeCapabilityMinor) == 0;
}

bool lora_product_takes(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                        std::span<const LoraPartOperands> parts) {
  constexpr int64_t kPack = gpu::Pack<gpu::bf16>::kSize;
  const auto suits = [](const Operand& x) {
    return x.cols % kPack == 0 && row_access({x}) == RowAccess::kPacked;
  };
  bool takes = is_16_bit(y_NO.dtype) && parts.size() <= kMostLoraParts && suits(y_NO) &&
               suits(x_NI) && suits(weight_OI);
  for (const LoraPartOperands& part : parts)
    takes = takes && part.begin % kPack == 0 && suits(part.u_Nr) && suits(part.right_Ir) &&
            suits(part.left_rO) && suits(part.du_Nr);
  return takes;
}

void lora_product_forward(const Operand& y_NO, const Operand& x_NI, const Operand& weight_OI,
                          const Operand& bias_O, const Operand& residual_NO,
                          std::span<const LoraPartOperands> parts, float scale,
                          cudaStream_t stream) {
  if (y_NO.rows == 0) return;
  start_on_all([&](int blocks) {
    hopper::lora_product_forward(y_NO, x_NI, weight_OI, bias_O, residual_NO, parts, scale, blocks,
                                 stream);
  });
}

void lora_product_backward_input(const Operand& dx_NI, const Operand& dy_NO,
                                 const Operand& weight_OI, const Operand& residual_NI,
                                 std::span<const LoraPartOperands> parts, cudaStream_t stream) {
  if (dx_NI.rows == 0) return;
  start_on_all([&](int blocks) {
    hopper::lora_product_backward_input(dx_NI, dy_NO, weight_OI, residual_NI, parts, blocks,
                                        stream);
  });
}

}  // namespace facet::cuda
