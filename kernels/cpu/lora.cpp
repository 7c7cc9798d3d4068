// LoRA by oneDNN's sgemm (gemm.h): u (N,r) = x (N,I) right (I,r), overwritten, and y (N,O) += scale
// u left (r,O). Backward overwrites du (N,r) = scale dy left' and adds to dx += du right', then to
// dleft += scale u' dy and dright += x' du.
#include "kernels/cpu/backend.h"
#include "kernels/cpu/gemm.h"

namespace facet {

void CpuBackend::compute_downs(const Tensor& x, std::span<const LoraDown> downs) {
  for (const auto& [u, right] : downs)
    gemm(Transpose::kNo, Transpose::kNo, 1, Matrix(x), Matrix(right), 0, Matrix(u));
}

namespace {
void add_left_product(const Tensor& y, const Tensor& u, const Tensor& left, float scale) {
  gemm(Transpose::kNo, Transpose::kNo, scale, Matrix(u), Matrix(left), 1, Matrix(y));
}
}  // namespace

void CpuBackend::do_lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                                            float scale) {
  const LoraDown down{u, right};
  compute_downs(x, {&down, 1});
  add_left_product(y, u, left, scale);
}

void CpuBackend::do_lora_backward_input_accumulate(Tensor dx, Tensor dleft, Tensor du, Tensor dy,
                                                   Tensor u, Tensor right, Tensor left,
                                                   float scale) {
  const Matrix du_Nr(du);
  gemm(Transpose::kNo, Transpose::kYes, scale, Matrix(dy), Matrix(left), 0, du_Nr);
  if (dleft.defined())
    gemm(Transpose::kYes, Transpose::kNo, scale, Matrix(u), Matrix(dy), 1, Matrix(dleft));
  if (dx.defined()) gemm(Transpose::kNo, Transpose::kYes, 1, du_Nr, Matrix(right), 1, Matrix(dx));
}

void CpuBackend::do_lora_backward_right(Tensor x, std::span<const LoraPart> parts) {
  for (const LoraPart& part : parts)
    if (part.dright.defined())
      gemm(Transpose::kYes, Transpose::kNo, 1, Matrix(x), Matrix(part.du), 1, Matrix(part.dright));
}

void CpuBackend::do_lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                        Tensor residual, std::span<const LoraPart> parts,
                                        float scale, const Rotation& rotation,
                                        int64_t rotated_heads) {
  do_linear_forward(y, x, weight, bias, residual);
  for (const LoraPart& part : parts) {
    const Tensor columns = y.column_block(part.begin, part.left.cols());
    if (part.has_u)
      add_left_product(columns, part.u, part.left, scale);
    else
      do_lora_forward_accumulate(columns, part.u, x, part.right, part.left, scale);
  }
  turn_heads(y, rotation, rotated_heads);
}

void CpuBackend::do_lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                               std::span<const LoraPart> parts, float scale) {
  if (dx.defined()) do_linear_backward_input(dx, dy, weight);
  for (const LoraPart& part : parts)
    do_lora_backward_input_accumulate(dx, part.dleft, part.du,
                                      dy.column_block(part.begin, part.left.cols()), part.u,
                                      part.right, part.left, scale);
}

}  // namespace facet
