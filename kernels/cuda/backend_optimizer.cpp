#include <cmath>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {
namespace {

// Bias corrections and 1 - beta in double, as AdamWStep asks.
cuda::AdamWFactors factors_of(const AdamWStep& step) {
  const double t = static_cast<double>(step.t);
  const double correction = std::sqrt(1 - std::pow(step.beta2, t)) / (1 - std::pow(step.beta1, t));
  return {static_cast<float>(step.learning_rate * correction),
          static_cast<float>(step.learning_rate * step.weight_decay),
          static_cast<float>(step.beta1),
          static_cast<float>(step.beta2),
          static_cast<float>(1 - step.beta1),
          static_cast<float>(1 - step.beta2),
          static_cast<float>(step.eps),
          step.gradient_scale};
}

}  // namespace

void CudaBackend::adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy,
                             Tensor grad, const AdamWStep& step) {
  count_call();
  const int64_t n = param.numel();
  ASSERT(exp_avg.numel() == n && exp_avg_sq.numel() == n && grad.numel() == n && step.t >= 1,
         "AdamW over {}, {}, {} and {} elements at step {}", n, exp_avg.numel(), exp_avg_sq.numel(),
         grad.numel(), step.t);
  ASSERT(!copy.defined() || (copy.numel() == n && copy.dense() && is_16_bit(copy.dtype())),
         "a copy of {} {} of {} elements", name_of(copy.dtype()), copy.shape_string(), n);
  cuda::adamw_step(cuda::f32_on_device(param), cuda::f32_on_device(exp_avg),
                   cuda::f32_on_device(exp_avg_sq), cuda::on_device(copy),
                   cuda::f32_on_device(grad), n, factors_of(step), stream_);
}

GradientStatistics CudaBackend::gradient_statistics(Tensor grad) {
  count_call();
  auto* result = reduction_.take<cuda::GradientPart>(1 + cuda::kGradientParts);
  cuda::gradient_statistics(result, result + 1, cuda::f32_on_device(grad), grad.numel(), stream_);
  cuda::GradientPart part;
  fetch(&part, result, sizeof part);
  return {part.sum_squares, part.first_non_finite};
}

}  // namespace facet
