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

void CudaBackend::do_gradient_statistics(std::span<GradientStatistics> statistics,
                                         std::span<const Tensor> grads) {
  const auto count = static_cast<int>(grads.size());
  if (count == 0) return;
  gradients_.clear();
  int parts = 0;
  for (const Tensor& grad : grads) {
    gradients_.push_back(cuda::gradient_vector(cuda::f32_on_device(grad), grad.numel(), parts));
    parts += gradients_.back().num_parts;
  }
  auto* vectors = gradient_vectors_.take<cuda::GradientVector>(count);
  ring_.copy(vectors, gradients_.data(),
             count * static_cast<int64_t>(sizeof(cuda::GradientVector)));
  auto* results = reduction_.take<cuda::GradientPart>(count + parts);
  cuda::gradient_statistics(results, results + count, vectors, count, parts, stream_);
  gradient_results_.resize(grads.size());
  fetch(gradient_results_.data(), results, grads.size() * sizeof(cuda::GradientPart));
  for (size_t i = 0; i < grads.size(); ++i)
    statistics[i] = {gradient_results_[i].sum_squares, gradient_results_[i].first_non_finite};
}

}  // namespace facet
