// AdamW's kernel and the gradient's norm against the CPU backend and fp64.
#include <cmath>
#include <limits>

#include "kernels/cuda/launchers.h"
#include "tests/kernels/parity.h"

namespace facet::kernel_test {
namespace {

struct VectorCase {
  int64_t n;
  DType copy;  // fp32: no copy
};

class AdamWParity : public testing::TestWithParam<VectorCase> {
 protected:
  TestStream stream_;
  CpuBackend cpu_{1};

  // Moments as they are after some steps: the second one is not negative.
  static Values squares(Values values) {
    for (double& value : values) value = static_cast<float>(value * value);
    return values;
  }
};

struct Moments {
  Values param, exp_avg, exp_avg_sq;
};

Moments step_in_fp64(const ParityMatrix& param, const ParityMatrix& exp_avg,
                     const ParityMatrix& exp_avg_sq, const ParityMatrix& grad,
                     const AdamWStep& step) {
  Moments result{param.start(), exp_avg.start(), exp_avg_sq.start()};
  const double t = static_cast<double>(step.t);
  const double correction = std::sqrt(1 - std::pow(step.beta2, t)) / (1 - std::pow(step.beta1, t));
  for (size_t i = 0; i < result.param.size(); ++i) {
    const double g = grad.start()[i] * step.gradient_scale;
    double &p = result.param[i], &m = result.exp_avg[i], &v = result.exp_avg_sq[i];
    m = step.beta1 * m + (1 - step.beta1) * g;
    v = step.beta2 * v + (1 - step.beta2) * g * g;
    p -= step.learning_rate * correction * m / (std::sqrt(v) + step.eps);
    p -= step.learning_rate * step.weight_decay * p;
  }
  return result;
}

// As the backend makes them of a step.
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

TEST_P(AdamWParity, OneStep) {
  const auto [n, copy_dtype] = GetParam();
  const auto vector = [&, n = n](const char* name, DType dtype, Role role) {
    return std::make_unique<ParityMatrix>(stream_, name, 1, n, 0, dtype, role);
  };
  const auto param = vector("param", DType::kF32, Role::kInOut);
  const auto exp_avg = vector("exp_avg", DType::kF32, Role::kInOut);
  const auto exp_avg_sq = vector("exp_avg_sq", DType::kF32, Role::kInOut);
  const auto grad = vector("grad", DType::kF32, Role::kIn);
  exp_avg_sq->set(squares(exp_avg_sq->start()));
  const bool copies = copy_dtype != DType::kF32;
  const auto copy = vector("copy", copies ? copy_dtype : DType::kBF16, Role::kOut);
  AdamWStep step;
  step.learning_rate = 0.01;
  step.weight_decay = 0.1;
  step.gradient_scale = 0.25f;
  step.t = 3;
  cuda::adamw_step(param->device_f32(), exp_avg->device_f32(), exp_avg_sq->device_f32(),
                   copies ? copy->device() : cuda::Operand(), grad->device_f32(), n,
                   factors_of(step), stream_);
  cpu_.adamw_step(param->host_vector(), exp_avg->host_vector(), exp_avg_sq->host_vector(),
                  copies ? copy->host_vector() : Tensor(), grad->host_vector(), step);
  const Moments exact = step_in_fp64(*param, *exp_avg, *exp_avg_sq, *grad, step);
  // The worst that was measured is 7e-8.
  constexpr double kRoundings = 2e-7;
  EXPECT_LE(relative_error(param->of_gpu(), exact.param), kRoundings);
  EXPECT_LE(relative_error(exp_avg->of_gpu(), exact.exp_avg), kRoundings);
  EXPECT_LE(relative_error(exp_avg_sq->of_gpu(), exact.exp_avg_sq), kRoundings);
  // To the bit: an optimizer that is offloaded steps on the CPU.
  EXPECT_EQ(param->of_gpu(), param->of_cpu());
  EXPECT_EQ(exp_avg->of_gpu(), exp_avg->of_cpu());
  EXPECT_EQ(exp_avg_sq->of_gpu(), exp_avg_sq->of_cpu());
  if (copies) {
    EXPECT_EQ(copy->of_gpu(), rounded(param->of_gpu(), copy_dtype));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, AdamWParity,
                         testing::Values(VectorCase{1, DType::kF32}, VectorCase{7, DType::kBF16},
                                         VectorCase{97, DType::kF16}, VectorCase{257, DType::kBF16},
                                         VectorCase{1025, DType::kF32},
                                         VectorCase{4096, DType::kF16}),
                         [](const auto& info) {
                           return fmt::format("{}_{}", info.param.n, name_of(info.param.copy));
                         });

class GradientStatisticsParity : public testing::Test {
 protected:
  TestStream stream_;

  cuda::GradientPart statistics_of(const std::vector<float>& grad) {
    return statistics_of(std::vector<std::vector<float>>{grad})[0];
  }

  std::vector<cuda::GradientPart> statistics_of(const std::vector<std::vector<float>>& grads) {
    std::vector<std::unique_ptr<DeviceBuffer<float>>> on_device;
    std::vector<cuda::GradientVector> vectors;
    int parts = 0;
    for (const std::vector<float>& grad : grads) {
      on_device.push_back(std::make_unique<DeviceBuffer<float>>(grad, stream_));
      vectors.push_back(cuda::gradient_vector(on_device.back()->data(),
                                              static_cast<int64_t>(grad.size()), parts));
      parts += vectors.back().num_parts;
    }
    const auto count = static_cast<int64_t>(vectors.size());
    const DeviceBuffer<cuda::GradientVector> table(vectors, stream_);
    DeviceBuffer<cuda::GradientPart> results(count), workspace(std::max(parts, 1));
    cuda::gradient_statistics(results.data(), workspace.data(), table.data(),
                              static_cast<int>(count), parts, stream_);
    return results.download(stream_);
  }
};

TEST_F(GradientStatisticsParity, TheSumIsThatOfFp64) {
  for (const int64_t n : {0, 1, 7, 97, 1025, 5000}) {
    const Values values = op_test::random_values(n, "grad");
    double exact = 0;
    for (const double value : values) exact += value * value;
    for_thread_orders(1, [&] {
      const cuda::GradientPart part = statistics_of(op_test::cast<float>(values));
      EXPECT_NEAR(part.sum_squares, exact, 1e-13 * exact) << n;
      EXPECT_EQ(part.first_non_finite, -1) << n;
    });
  }
}

// An empty one among them has no part. Every vector has the bits that it has alone.
TEST_F(GradientStatisticsParity, ManyVectorsHaveTheBitsOfEachAlone) {
  std::vector<std::vector<float>> grads;
  for (const int64_t n : {1025, 0, 7, 5000})
    grads.push_back(op_test::cast<float>(op_test::random_values(n, "grad")));
  grads[3][4321] = std::numeric_limits<float>::infinity();
  const std::vector<cuda::GradientPart> together = statistics_of(grads);
  for (size_t i = 0; i < grads.size(); ++i) {
    const cuda::GradientPart alone = statistics_of(grads[i]);
    EXPECT_EQ(together[i].sum_squares, alone.sum_squares) << i;
    EXPECT_EQ(together[i].first_non_finite, i == 3 ? 4321 : -1) << i;
  }
}

TEST_F(GradientStatisticsParity, TheFirstOffenderIsNamed) {
  std::vector<float> grad(5000, 1.0f);
  grad[4999] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(statistics_of(grad).first_non_finite, 4999);
  grad[2050] = std::nanf("");
  EXPECT_EQ(statistics_of(grad).first_non_finite, 2050);
  grad[2049] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(statistics_of(grad).first_non_finite, 2049);
  EXPECT_FALSE(std::isfinite(statistics_of(grad).sum_squares));
  grad[0] = std::nanf("");
  EXPECT_EQ(statistics_of(grad).first_non_finite, 0);
}

}  // namespace
}  // namespace facet::kernel_test
