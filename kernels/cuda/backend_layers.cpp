// DoRA, norms, activations, rotary embedding, loss. What makes LoRA's inputs is in
// backend_products.cpp.
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::f32_on_device, cuda::i32_on_device, cuda::on_device;

// ---- DoRA

void CudaBackend::do_dora_row_norms(Tensor norm, Tensor weight, Tensor right, Tensor left,
                                    float scale) {
  cuda::dora_row_norms(f32_on_device(norm), on_device(weight), on_device(right), on_device(left),
                       scale, stream_);
}

void CudaBackend::do_dora_forward(Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,
                                  Tensor residual) {
  cuda::dora_forward(on_device(y), on_device(z), on_device(magnitude), f32_on_device(norm),
                     on_device(bias), on_device(residual), stream_);
}

void CudaBackend::do_dora_backward(Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z,
                                   Tensor magnitude, Tensor norm) {
  cuda::dora_backward(on_device(dz), f32_on_device(dmagnitude), on_device(dy), on_device(z),
                      on_device(magnitude), f32_on_device(norm), stream_);
}

// ---- norms

void CudaBackend::do_rms_norm_backward(Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x,
                                       Tensor weight, Tensor rstd, Tensor dresidual) {
  cuda::rms_norm_backward(on_device(dx), f32_on_device(dweight), on_device(y), on_device(dy),
                          on_device(x), on_device(weight), f32_on_device(rstd),
                          on_device(dresidual), stream_);
}

void CudaBackend::do_layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                                        Tensor bias, float eps) {
  cuda::layer_norm_forward(on_device(y), f32_on_device(mean), f32_on_device(rstd), on_device(x),
                           on_device(weight), on_device(bias), eps, stream_);
}

void CudaBackend::do_layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy,
                                         Tensor x, Tensor weight, Tensor mean, Tensor rstd,
                                         Tensor dresidual) {
  cuda::layer_norm_backward(on_device(dx), f32_on_device(dweight), f32_on_device(dbias),
                            on_device(dy), on_device(x), on_device(weight), f32_on_device(mean),
                            f32_on_device(rstd), on_device(dresidual), stream_);
}

// ---- token-wise activations

void CudaBackend::do_swiglu_backward(Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up) {
  cuda::swiglu_backward(on_device(dgate_up), on_device(act), on_device(dact), on_device(gate_up),
                        stream_);
}

void CudaBackend::do_gelu_forward(Tensor y, Tensor x, Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu:
      return cuda::quick_gelu_forward(on_device(y), on_device(x), stream_);
    case Activation::kGelu: return cuda::gelu_forward(on_device(y), on_device(x), stream_);
    case Activation::kGeluTanh: return cuda::gelu_tanh_forward(on_device(y), on_device(x), stream_);
  }
}

void CudaBackend::do_gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  switch (activation) {
    case Activation::kQuickGelu:
      return cuda::quick_gelu_backward(on_device(dx), on_device(dy), on_device(x), stream_);
    case Activation::kGelu:
      return cuda::gelu_backward(on_device(dx), on_device(dy), on_device(x), stream_);
    case Activation::kGeluTanh:
      return cuda::gelu_tanh_backward(on_device(dx), on_device(dy), on_device(x), stream_);
  }
}

// ---- rotary embedding

void CudaBackend::do_rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) {
  cuda::rope_forward(on_device(x), on_device(cos), on_device(sin), heads, stream_);
}

void CudaBackend::do_rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) {
  cuda::rope_backward(on_device(dx), on_device(cos), on_device(sin), heads, stream_);
}

// ---- loss

void CudaBackend::do_cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) {
  cuda::cross_entropy_forward(f32_on_device(row_loss), on_device(logits), i32_on_device(labels),
                              stream_);
}

void CudaBackend::do_cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                                    float gradient_scale) {
  cuda::cross_entropy_forward_backward(f32_on_device(row_loss), on_device(logits),
                                       i32_on_device(labels), gradient_scale, stream_);
}

}  // namespace facet
