// Optimizer, schedules and groups against transformers and the original; whole training curves.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/cpu/backend.h"
#include "optim/lr_schedule.h"
#include "tests/golden/curve_rig.h"
#include "tests/golden/hash_weights.h"

namespace facet::golden {
namespace {

TEST(GoldenTraining, AdamWMatchesTransformersOver20Steps) {
  const GoldenFile file("training.safetensors");
  const JsonValue description = file.description("adamw");
  const int64_t count = description.at("count").as_int(), steps = description.at("steps").as_int();
  const std::vector<float> expected = file.floats("adamw", "values");
  CpuBackend ops(2);
  Arena arena("test", 1 << 20);
  const Tensor p = arena.tensor({count}), m = arena.tensor({count}), v = arena.tensor({count});
  const Tensor g = arena.tensor({count});
  const auto set = [&](const std::string& name, const Tensor& t) {
    const std::vector<float> values = uniform(name, count);
    std::copy(values.begin(), values.end(), t.f32());
  };
  set("adamw start", p);
  ops.fill(m, 0);
  ops.fill(v, 0);
  AdamWStep step;
  step.weight_decay = description.at("weight_decay").as_double();
  for (int64_t t = 0; t < steps; ++t) {
    set("adamw gradient " + std::to_string(t), g);
    step.learning_rate = 1e-2 * static_cast<double>(1 + t % 3);
    step.t = t + 1;
    ops.adamw_step(p, m, v, Tensor(), g, step);
    const std::vector<float> row(expected.begin() + t * count, expected.begin() + (t + 1) * count);
    EXPECT_LE(relative_error({p.f32(), p.f32() + count}, row), 5e-7) << "step " << t;
  }
}

TEST(GoldenTraining, SchedulesMatchTransformers) {
  const GoldenFile file("training.safetensors");
  const std::vector<std::string> names = file.cases_with("schedule_");
  EXPECT_EQ(names.size(), 12u);
  for (const std::string& name : names) {
    const JsonValue description = file.description(name);
    const LrSchedule schedule(
        schedule_from_name(std::string(description.at("schedule").as_string())),
        description.at("warmup").as_int(), description.at("steps").as_int(),
        description.at("rate").as_double());
    const std::vector<float> expected = file.floats(name, "factors");
    for (size_t t = 0; t < expected.size(); ++t)
      EXPECT_NEAR(schedule.factor(static_cast<int64_t>(t)), expected[t], 1e-7)
          << name << " step " << t;
  }
}

// The rates and the decay identify the four groups.
std::vector<std::vector<std::string>> names_by_group(const std::vector<ParamGroup>& groups) {
  std::vector<std::vector<std::string>> names(4);
  for (const ParamGroup& group : groups) {
    const size_t index = (group.weight_decay == 0 ? 1u : 0u) + (group.learning_rate < 1 ? 2u : 0u);
    for (const Param* param : group.params) names[index].push_back(param->name);
  }
  for (auto& group : names) std::sort(group.begin(), group.end());
  return names;
}

TEST(GoldenTraining, GroupsMatchTheOriginal) {
  const GoldenFile file("training.safetensors");
  for (const std::string& name : file.cases_with("groups_")) {
    const JsonValue description = file.description(name);
    std::vector<std::vector<std::string>> expected;
    ParamTable table;
    VisionLanguageModel model(config_of(description), table);
    for (const JsonValue group : description.at("groups")) {
      expected.emplace_back();
      for (const JsonValue param : group) expected.back().emplace_back(param.as_string());
    }
    GroupOptions options;
    options.learning_rate = 1;
    options.learning_rate_pretraining_components = 0.5;
    options.weight_decay = 0.1;
    options.rule = NoDecayRule::kVisualChat;
    EXPECT_EQ(names_by_group(make_param_groups(table, options)), expected) << name;
  }
}

constexpr double kTolerance = 1e-5;  // relative, of the loss and of the gradient norm

void follow_curve(const std::string& name, LossAverage average, NoDecayRule rule) {
  const GoldenFile file("training.safetensors");
  const Curve curve = walk_curve(file, name, {average, rule});
  const std::vector<float> losses = file.floats(name, "losses"), norms = file.floats(name, "norms");
  double largest_loss_error = 0, largest_norm_error = 0;
  ASSERT_EQ(curve.losses.size(), losses.size());
  for (size_t step = 0; step < losses.size(); ++step) {
    EXPECT_NEAR(curve.losses[step], losses[step], kTolerance * losses[step])
        << name << " step " << step;
    EXPECT_NEAR(curve.norms[step], norms[step], kTolerance * norms[step])
        << name << " step " << step;
    largest_loss_error = std::max(
        largest_loss_error, std::abs(curve.losses[step] / static_cast<double>(losses[step]) - 1));
    largest_norm_error = std::max(
        largest_norm_error, std::abs(curve.norms[step] / static_cast<double>(norms[step]) - 1));
  }
  fmt::print("{}: largest error of the loss {:.1e}, of the gradient norm {:.1e}\n", name,
             largest_loss_error, largest_norm_error);
}

TEST(GoldenTraining, CompatCurveFollowsTheOriginal) {
  follow_curve("curve_compat", LossAverage::kMicroBatch, NoDecayRule::kVisualChat);
}

TEST(GoldenTraining, CorrectCurveFollowsThePlainModel) {
  follow_curve("curve_correct", LossAverage::kGlobal, NoDecayRule::kBiasAndNorms);
}

}  // namespace
}  // namespace facet::golden
