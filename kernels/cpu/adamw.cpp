// AdamW and the statistics of a gradient, over dense fp32 vectors of n elements. This is the
// optimizer's arithmetic on the CPU (kernels/cuda/adamw.cu on a GPU); src/zero/engine.cpp calls it
// through Backend::adamw_step (ops/ops.h).
//
// adamw_step: g = gradient_scale grad; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps); then p -= lr wd p. p, m and v are
// updated in place, the rounded copy of p is overwritten. One pass; each thread has one range of
// the elements. What is rounded once by an fma is said, not left to compilers: the bits are those
// of kernels/cuda/adamw.cu.
// gradient_statistics: the sum of squares in double, over blocks of fixed length added in order,
// and the index of the first non-finite element.
#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/parallel.h"

namespace facet {
namespace {

constexpr int64_t kRoundedAtOnce = 1024;  // elements, while they are in the L1 cache

double sum_of_squares(const float* x, int64_t begin, int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i)
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace

void CpuBackend::do_adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy,
                               Tensor grad, const AdamWStep& step) {
  const int64_t n = param.numel();
  float *p = param.f32(), *m = exp_avg.f32(), *v = exp_avg_sq.f32();
  const float* gradient = grad.f32();
  const double t = static_cast<double>(step.t);
  const double bias_correction =
      std::sqrt(1 - std::pow(step.beta2, t)) / (1 - std::pow(step.beta1, t));
  const float rate = static_cast<float>(step.learning_rate * bias_correction);
  const float decay = static_cast<float>(step.learning_rate * step.weight_decay);
  const float beta1 = static_cast<float>(step.beta1), beta2 = static_cast<float>(step.beta2);
  const float rest1 = static_cast<float>(1 - step.beta1);
  const float rest2 = static_cast<float>(1 - step.beta2);
  const float eps = static_cast<float>(step.eps), scale = step.gradient_scale;
  const auto update = [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
      const float g = gradient[i] * scale;
      m[i] = std::fma(beta1, m[i], rest1 * g);
      v[i] = std::fma(beta2, v[i], rest2 * g * g);
      const float moved = std::fma(-rate, m[i] / (std::sqrt(v[i]) + eps), p[i]);
      p[i] = std::fma(-decay, moved, moved);
    }
  };
  uint16_t* rounded = copy.defined() ? copy.bits16() : nullptr;
  const DType copy_dtype = copy.dtype();
  for_ranges(n, [=](int64_t begin, int64_t end) {
    if (!rounded) return update(begin, end);
    for (int64_t at = begin; at < end; at += kRoundedAtOnce) {
      const int64_t count = std::min(kRoundedAtOnce, end - at);
      update(at, at + count);
      round_to_16_bits(rounded + at, p + at, count, copy_dtype);
    }
  });
}

void CpuBackend::do_gradient_statistics(std::span<GradientStatistics> statistics,
                                        std::span<const Tensor> grads) {
  for (size_t i = 0; i < grads.size(); ++i) statistics[i] = statistics_of(grads[i]);
}

GradientStatistics CpuBackend::statistics_of(const Tensor& grad) {
  const float* data = grad.f32();
  const int64_t n = grad.numel();
  GradientStatistics statistics;
  // The square of a finite fp32 number is finite in double, so the sum is finite if and only if all
  // elements are.
  statistics.sum_squares =
      sum_blocks(n, [=](int64_t begin, int64_t end) { return sum_of_squares(data, begin, end); });
  if (std::isfinite(statistics.sum_squares)) return statistics;
  int64_t i = 0;
  while (std::isfinite(data[i])) ++i;
  statistics.first_non_finite = i;
  return statistics;
}

}  // namespace facet
