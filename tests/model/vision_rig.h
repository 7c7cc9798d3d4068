// What the tests of the vision encoder and the projections share: parameters drawn by name, in fp32
// for the model and in fp64 for the reference; one run forward and backward; gradients against
// central differences of the reference.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/cpu/backend.h"
#include "nn/context.h"
#include "nn/param_table.h"
#include "tests/model/vision_reference.h"

namespace facet::vision_rig {

using vision_reference::Mat;
using vision_reference::Params;

inline Mat random_mat(int64_t rows, int64_t cols, const std::string& name, double scale = 1) {
  Mat m(rows, cols);
  RandomStream stream(7, name);
  for (double& x : m.a) x = static_cast<float>(scale * stream.normal());
  return m;
}

// Values around those of a trained model: norms near 1, products that keep the size of their input.
inline Mat random_param(const Param& param) {
  const int64_t rows = param.shape.size() < 2 ? 1 : param.shape[0];
  const int64_t cols = param.numel() / rows;
  double scale = 0.5;
  if (param.role == ParamRole::kWeight) scale = 1 / std::sqrt(static_cast<double>(cols));
  if (param.role == ParamRole::kLora) scale = 1 / std::sqrt(static_cast<double>(rows));
  if (param.role == ParamRole::kNormWeight || param.role == ParamRole::kBias) scale = 0.2;
  Mat m = random_mat(rows, cols, param.name, scale);
  if (param.role == ParamRole::kNormWeight)
    for (double& x : m.a) x = static_cast<float>(1 + x);
  return m;
}

// Lays the table out, fills it and returns the same values for the reference.
inline Params fill(ParamTable& table) {
  table.allocate(1);
  table.allocate_gradients();
  Params params;
  for (Param& param : table.params()) {
    const Mat& m = params[param.name] = random_param(param);
    for (size_t i = 0; i < m.a.size(); ++i) param.value.f32()[i] = static_cast<float>(m.a[i]);
  }
  return params;
}

inline std::vector<float> floats_of(const Tensor& t) {
  return std::vector<float>(t.f32(), t.f32() + t.numel());
}

inline void set(const Tensor& t, const Mat& m) {
  ASSERT(t.numel() == static_cast<int64_t>(m.a.size()), "{} takes {} values", t.shape_string(),
         m.a.size());
  for (size_t i = 0; i < m.a.size(); ++i) t.f32()[i] = static_cast<float>(m.a[i]);
}

inline void fill_nan(const Tensor& t) {
  std::memset(t.raw(), 0xff, static_cast<size_t>(t.bytes()));
}

inline double norm(const std::vector<double>& a) {
  double sum = 0;
  for (const double x : a) sum += x * x;
  return std::sqrt(sum);
}

template <typename Actual>
double relative_error(const std::vector<Actual>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  std::vector<double> difference(expected);
  for (size_t i = 0; i < expected.size(); ++i) difference[i] -= static_cast<double>(actual[i]);
  const double error = norm(difference) / norm(expected);
  return std::isfinite(error) ? error : INFINITY;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// A gradient of the model by value, next to the reference value it belongs to.
struct GradientOf {
  std::string name;
  std::vector<double> gradient;
  Mat* value;
};

// The model's gradients of the functional must have the slopes of the fp64 reference along random
// directions. fp32 rounding over these depths costs about 1e-6 of |gradient||direction|; what is
// zero by nature (the bias of the keys) is rounding noise of the other gradients.
inline void expect_gradients(std::vector<GradientOf> gradients, int trials,
                             const std::function<double()>& functional) {
  constexpr double kStep = 1e-5, kTolerance = 1e-5, kNoise = 1e-7;
  double largest = 0;
  for (const GradientOf& g : gradients) largest = std::max(largest, norm(g.gradient));
  EXPECT_GT(largest, 0);
  for (const GradientOf& g : gradients) {
    const std::vector<double> here = g.value->a;
    ASSERT_EQ(g.gradient.size(), here.size()) << g.name;
    for (int trial = 0; trial < trials; ++trial) {
      const Mat direction = random_mat(1, static_cast<int64_t>(here.size()),
                                       g.name + " direction " + std::to_string(trial));
      const auto shifted = [&](double step) {
        for (size_t i = 0; i < here.size(); ++i) g.value->a[i] = here[i] + step * direction.a[i];
        return functional();
      };
      const double slope = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
      g.value->a = here;
      const double tolerance = kTolerance * norm(g.gradient) + kNoise * largest;
      EXPECT_NEAR(dot(g.gradient, direction.a), slope, tolerance * norm(direction.a)) << g.name;
    }
  }
}

inline std::vector<GradientOf> trained_gradients(const ParamTable& table, Params& params) {
  std::vector<GradientOf> result;
  for (const Param& param : table.params()) {
    if (!param.trained) continue;
    const std::vector<float> g = floats_of(param.grad);
    result.push_back({param.name, {g.begin(), g.end()}, &params.at(param.name)});
  }
  return result;
}

class RecordingHooks final : public UnitHooks {
 public:
  explicit RecordingHooks(const ParamTable& table) : table_(table) {}
  void before(int unit, Phase phase) override { note("before", unit, phase); }
  void after(int unit, Phase phase) override { note("after", unit, phase); }
  void gradients_ready(int unit) override { events.push_back("ready " + name(unit)); }

  std::vector<std::string> events;

 private:
  std::string name(int unit) const { return table_.units()[static_cast<size_t>(unit)].name; }
  void note(const char* when, int unit, Phase phase) {
    static const char* const kPhases[] = {"forward", "recompute", "backward"};
    events.push_back(std::string(when) + " " + kPhases[static_cast<size_t>(phase)] + " " +
                     name(unit));
  }
  const ParamTable& table_;
};

}  // namespace facet::vision_rig
