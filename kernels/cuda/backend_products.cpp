// Linear layers and LoRA.
#include "base/log.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::check_one_shape, cuda::check_one_type, cuda::on_device;

namespace {

// y (N,O), x (N,I), weight (O,I), whichever way the product goes.
void check_product(const Tensor& y, const Tensor& x, const Tensor& weight) {
  check_one_type({y, x, weight});
  ASSERT(y.rows() == x.rows() && weight.rows() == y.cols() && weight.cols() == x.cols(),
         "{} and {} by a weight {}", y.shape_string(), x.shape_string(), weight.shape_string());
}

// y (N,O), x (N,I), right (I,r), left (r,O)
void check_lora(const Tensor& y, const Tensor& x, const Tensor& right, const Tensor& left) {
  check_one_type({y, x, right, left});
  ASSERT(y.rows() == x.rows() && right.rows() == x.cols() && left.cols() == y.cols() &&
             left.rows() == right.cols() && right.dense() && left.dense(),
         "{} and {} by {} and {}", y.shape_string(), x.shape_string(), right.shape_string(),
         left.shape_string());
}

}  // namespace

void CudaBackend::linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual) {
  count_linear(x.rows(), x.cols(), y.cols());
  check_product(y, x, weight);
  check_one_type({y, bias, residual});
  check_one_shape({y, residual});
  ASSERT(!bias.defined() || bias.numel() == y.cols(), "{} biases for {} outputs", bias.numel(),
         y.cols());
  products_.linear_forward(on_device(y), on_device(x), on_device(weight), on_device(bias),
                           on_device(residual));
}

void CudaBackend::linear_backward_input(Tensor dx, Tensor dy, Tensor weight) {
  count_linear(dy.rows(), weight.cols(), weight.rows());
  check_product(dy, dx, weight);
  products_.linear_backward_input(on_device(dx), on_device(dy), on_device(weight));
}

void CudaBackend::linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) {
  count_linear(dy.rows(), weight.cols(), weight.rows());
  check_product(dy, dx, weight);
  products_.linear_backward_input_accumulate(on_device(dx), on_device(dy), on_device(weight));
}

void CudaBackend::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) {
  count_linear(dy.rows(), x.cols(), dweight.defined() ? dy.cols() : 0);
  for (const Tensor& gradient : {dweight, dbias})
    ASSERT(!gradient.defined() || gradient.dtype() == DType::kF32, "a weight's gradient of {}",
           name_of(gradient.dtype()));
  ASSERT(!dweight.defined() || (dweight.rows() == dy.cols() && dweight.cols() == x.cols() &&
                                dy.rows() == x.rows() && dy.dtype() == x.dtype()),
         "dweight {} from {} {} and {} {}", dweight.shape_string(), name_of(dy.dtype()),
         dy.shape_string(), name_of(x.dtype()), x.shape_string());
  ASSERT(!dbias.defined() || dbias.numel() == dy.cols(), "dbias {} from {}", dbias.shape_string(),
         dy.shape_string());
  products_.linear_backward_weight(on_device(dweight), on_device(dbias), on_device(dy),
                                   on_device(x));
}

void CudaBackend::warn_of_plain_lora(int64_t rank) {
  constexpr int64_t kPack = 8;
  if (rank % kPack != 0 && plain_ranks_.insert(rank).second)
    warn("LoRA of rank {} runs without tensor cores, which take multiples of {}: much slower", rank,
         kPack);
}

void CudaBackend::lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                                          float scale) {
  count_lora_forward(x.rows(), right, left);
  check_lora(y, x, right, left);
  if (is_16_bit(x.dtype())) warn_of_plain_lora(right.cols());
  check_one_type({x, u});
  ASSERT(u.rows() == x.rows() && u.cols() == right.cols(), "u {} of {} by {}", u.shape_string(),
         x.shape_string(), right.shape_string());
  cuda::lora_forward_accumulate(on_device(y), on_device(u), on_device(x), on_device(right),
                                on_device(left), scale, stream_);
}

void CudaBackend::lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du,
                                           Tensor dy, Tensor x, Tensor u, Tensor right, Tensor left,
                                           float scale) {
  count_lora_backward(x.rows(), right, left, dx, dright, dleft);
  check_lora(dy, x, right, left);
  check_one_type({x, u, dx});
  check_one_shape({x, dx});
  check_one_shape({u, du});
  check_one_shape({right, dright});
  check_one_shape({left, dleft});
  ASSERT(u.rows() == x.rows() && u.cols() == right.cols(), "u {} of {} by {}", u.shape_string(),
         x.shape_string(), right.shape_string());
  for (const Tensor& fp32 : {du, dright, dleft})
    ASSERT(!fp32.defined() || fp32.dtype() == DType::kF32, "du, dright or dleft of {}",
           name_of(fp32.dtype()));
  cuda::lora_backward_accumulate(on_device(dx), on_device(dright), on_device(dleft), on_device(du),
                                 on_device(dy), on_device(x), on_device(u), on_device(right),
                                 on_device(left), scale, stream_);
}

}  // namespace facet
