// LoRA by oneDNN's sgemm (gemm.h): u (N,r) = x (N,I) right (I,r), overwritten, and y (N,O) += scale
// u left (r,O). Backward overwrites du (N,r) = scale dy left' and adds to dleft += scale u' dy,
// dright += x' du and dx += du right'.
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

void CpuBackend::do_lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du,
                                             Tensor dy, Tensor x, Tensor u, Tensor right,
                                             Tensor left, float scale) {
  const Matrix du_Nr(du), dy_NO(dy);
  gemm(Transpose::kNo, Transpose::kYes, scale, dy_NO, Matrix(left), 0, du_Nr);
  if (dleft.defined())
    gemm(Transpose::kYes, Transpose::kNo, scale, Matrix(u), dy_NO, 1, Matrix(dleft));
  if (dright.defined())
    gemm(Transpose::kYes, Transpose::kNo, 1, Matrix(x), du_Nr, 1, Matrix(dright));
  if (dx.defined()) gemm(Transpose::kNo, Transpose::kYes, 1, du_Nr, Matrix(right), 1, Matrix(dx));
}

void CpuBackend::do_lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                        Tensor residual, std::span<const LoraPart> parts,
                                        float scale) {
  do_linear_forward(y, x, weight, bias, residual);
  for (const LoraPart& part : parts) {
    const Tensor columns = y.column_block(part.begin, part.left.cols());
    if (part.has_u)
      add_left_product(columns, part.u, part.left, scale);
    else
      do_lora_forward_accumulate(columns, part.u, x, part.right, part.left, scale);
  }
}

void CpuBackend::do_lora_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor weight,
                                         std::span<const LoraPart> parts, float scale) {
  if (dx.defined()) do_linear_backward_input(dx, dy, weight);
  for (const LoraPart& part : parts)
    do_lora_backward_accumulate(dx, part.dright, part.dleft, part.du,
                                dy.column_block(part.begin, part.left.cols()), x, part.u,
                                part.right, part.left, scale);
}

}  // namespace facet
