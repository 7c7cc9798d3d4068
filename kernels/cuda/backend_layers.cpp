// Norms, activations, rotary embedding, loss.
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::check_one_shape, cuda::check_one_type, cuda::f32_on_device, cuda::i32_on_device,
    cuda::on_device;

namespace {

// A vector with an element a column, or a row, of x; absent ones fit.
void check_count(const Tensor& vector, int64_t count, const Tensor& x) {
  ASSERT(!vector.defined() || vector.numel() == count, "a vector {} beside {}",
         vector.shape_string(), x.shape_string());
}
void check_columns(const Tensor& vector, const Tensor& x) { check_count(vector, x.cols(), x); }
void check_rows(const Tensor& vector, const Tensor& x) { check_count(vector, x.rows(), x); }

}  // namespace

// ---- norms

void CudaBackend::rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps) {
  count_call();
  check_one_type({y, x, weight});
  check_one_shape({y, x});
  check_columns(weight, x);
  check_rows(rstd, x);
  cuda::rms_norm_forward(on_device(y), f32_on_device(rstd), on_device(x), on_device(weight), eps,
                         stream_);
}

void CudaBackend::rms_norm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight,
                                    Tensor rstd, Tensor dresidual) {
  count_call();
  check_one_type({dx, dy, x, weight, dresidual});
  check_one_shape({dx, dy, x, dresidual});
  for (const Tensor& vector : {weight, dweight}) check_columns(vector, x);
  check_rows(rstd, x);
  cuda::rms_norm_backward(on_device(dx), f32_on_device(dweight), on_device(dy), on_device(x),
                          on_device(weight), f32_on_device(rstd), on_device(dresidual), stream_);
}

void CudaBackend::layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                                     Tensor bias, float eps) {
  count_call();
  check_one_type({y, x, weight, bias});
  check_one_shape({y, x});
  for (const Tensor& vector : {weight, bias}) check_columns(vector, x);
  for (const Tensor& vector : {mean, rstd}) check_rows(vector, x);
  cuda::layer_norm_forward(on_device(y), f32_on_device(mean), f32_on_device(rstd), on_device(x),
                           on_device(weight), on_device(bias), eps, stream_);
}

void CudaBackend::layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                                      Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual) {
  count_call();
  check_one_type({dx, dy, x, weight, dresidual});
  check_one_shape({dx, dy, x, dresidual});
  for (const Tensor& vector : {weight, dweight, dbias}) check_columns(vector, x);
  for (const Tensor& vector : {mean, rstd}) check_rows(vector, x);
  cuda::layer_norm_backward(on_device(dx), f32_on_device(dweight), f32_on_device(dbias),
                            on_device(dy), on_device(x), on_device(weight), f32_on_device(mean),
                            f32_on_device(rstd), on_device(dresidual), stream_);
}

// ---- token-wise activations

void CudaBackend::swiglu_forward(Tensor act, Tensor gate_up) {
  count_call();
  check_one_type({act, gate_up});
  ASSERT(gate_up.cols() == 2 * act.cols() && gate_up.rows() == act.rows(), "gate|up {} for {}",
         gate_up.shape_string(), act.shape_string());
  cuda::swiglu_forward(on_device(act), on_device(gate_up), stream_);
}

void CudaBackend::swiglu_backward(Tensor dgate_up, Tensor dact, Tensor gate_up) {
  count_call();
  check_one_type({dgate_up, dact, gate_up});
  check_one_shape({dgate_up, gate_up});
  ASSERT(gate_up.cols() == 2 * dact.cols() && gate_up.rows() == dact.rows(), "gate|up {} for {}",
         gate_up.shape_string(), dact.shape_string());
  cuda::swiglu_backward(on_device(dgate_up), on_device(dact), on_device(gate_up), stream_);
}

void CudaBackend::gelu_forward(Tensor y, Tensor x, Activation activation) {
  count_call();
  check_one_type({y, x});
  check_one_shape({y, x});
  switch (activation) {
    case Activation::kQuickGelu:
      return cuda::quick_gelu_forward(on_device(y), on_device(x), stream_);
    case Activation::kGelu: return cuda::gelu_forward(on_device(y), on_device(x), stream_);
  }
}

void CudaBackend::gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  count_call();
  check_one_type({dx, dy, x});
  check_one_shape({dx, dy, x});
  switch (activation) {
    case Activation::kQuickGelu:
      return cuda::quick_gelu_backward(on_device(dx), on_device(dy), on_device(x), stream_);
    case Activation::kGelu:
      return cuda::gelu_backward(on_device(dx), on_device(dy), on_device(x), stream_);
  }
}

// ---- rotary embedding

namespace {

void check_rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int64_t heads) {
  check_one_shape({cos, sin});
  ASSERT(cos.dtype() == DType::kF32 && sin.dtype() == DType::kF32, "angles of {}",
         name_of(cos.dtype()));
  ASSERT(heads * 2 * cos.cols() == x.cols() && cos.rows() == x.rows(),
         "{} heads in {} turned by {}", heads, x.shape_string(), cos.shape_string());
}

}  // namespace

void CudaBackend::rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) {
  count_call();
  check_rope(x, cos, sin, heads);
  cuda::rope_forward(on_device(x), on_device(cos), on_device(sin), heads, stream_);
}

void CudaBackend::rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) {
  count_call();
  check_rope(dx, cos, sin, heads);
  cuda::rope_backward(on_device(dx), on_device(cos), on_device(sin), heads, stream_);
}

// ---- loss

void CudaBackend::cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) {
  count_call();
  for (const Tensor& vector : {row_loss, labels}) check_rows(vector, logits);
  cuda::cross_entropy_forward(f32_on_device(row_loss), on_device(logits), i32_on_device(labels),
                              stream_);
}

void CudaBackend::cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                                 float gradient_scale) {
  count_call();
  for (const Tensor& vector : {row_loss, labels}) check_rows(vector, logits);
  cuda::cross_entropy_forward_backward(f32_on_device(row_loss), on_device(logits),
                                       i32_on_device(labels), gradient_scale, stream_);
}

}  // namespace facet
