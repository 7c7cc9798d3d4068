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

void CudaBackend::do_adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy,
                                Tensor grad, const AdamWStep& step) {
  cuda::adamw_step(cuda::f32_on_device(param), cuda::f32_on_device(exp_avg),
                   cuda::f32_on_device(exp_avg_sq), cuda::on_device(copy),
                   cuda::f32_on_device(grad), param.numel(), factors_of(step), stream_);
}

GradientStatistics CudaBackend::do_gradient_statistics(Tensor grad) {
  auto* result = reduction_.take<cuda::GradientPart>(1 + cuda::kGradientParts);
  cuda::gradient_statistics(result, result + 1, cuda::f32_on_device(grad), grad.numel(), stream_);
  cuda::GradientPart part;
  fetch(&part, result, sizeof part);
  return {part.sum_squares, part.first_non_finite};
}

}  // namespace facet
