// Linear layers and LoRA.
#include "base/log.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::on_device;

void CudaBackend::do_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                    Tensor residual) {
  products_.linear_forward(on_device(y), on_device(x), on_device(weight), on_device(bias),
                           on_device(residual));
}

void CudaBackend::do_linear_backward_input(Tensor dx, Tensor dy, Tensor weight) {
  products_.linear_backward_input(on_device(dx), on_device(dy), on_device(weight));
}

void CudaBackend::do_linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) {
  products_.linear_backward_input_accumulate(on_device(dx), on_device(dy), on_device(weight));
}

void CudaBackend::do_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) {
  products_.linear_backward_weight(on_device(dweight), on_device(dbias), on_device(dy),
                                   on_device(x));
}

void CudaBackend::warn_of_plain_lora(int64_t rank) {
  constexpr int64_t kPack = 8;
  if (rank % kPack != 0 && plain_ranks_.insert(rank).second)
    warn("LoRA of rank {} runs without tensor cores, which take multiples of {}: much slower", rank,
         kPack);
}

void CudaBackend::do_lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right,
                                             Tensor left, float scale) {
  if (is_16_bit(x.dtype())) warn_of_plain_lora(right.cols());
  cuda::lora_forward_accumulate(on_device(y), on_device(u), on_device(x), on_device(right),
                                on_device(left), scale, stream_);
}

void CudaBackend::do_lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du,
                                              Tensor dy, Tensor x, Tensor u, Tensor right,
                                              Tensor left, float scale) {
  cuda::lora_backward_accumulate(on_device(dx), on_device(dright), on_device(dleft), on_device(du),
                                 on_device(dy), on_device(x), on_device(u), on_device(right),
                                 on_device(left), scale, stream_);
}

}  // namespace facet
