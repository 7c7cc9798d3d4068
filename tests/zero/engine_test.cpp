// Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include "zero/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/rng.h"
#include "kernels/cpu/backend.h"
#include "optim/partition.h"
#include "tests/zero/small_table.h"

namespace facet {
namespace {

struct Fixture {
  explicit Fixture(double clipping = 1) : world(MPI_COMM_WORLD), ops(1) {
    declare_small_table(table);
    table.allocate(partition_padding(world.size()));
    table.allocate_gradients();
    for (Param& param : table.params()) ParamTable::draw(param, 1);
    GroupOptions rates;
    rates.learning_rate = 1e-2;
    rates.learning_rate_pretraining_components = 1e-3;
    rates.weight_decay = 0.1;
    options.gradient_clipping = clipping;
    engine.emplace(table, make_param_groups(table, rates), world, ops, options);
  }

  // What rank r contributes to the gradient of element i of a parameter at one step.
  static double gradient(const Param& param, int64_t i, int rank, int step) {
    RandomStream stream(static_cast<uint64_t>(step), param.name, static_cast<uint64_t>(rank),
                        static_cast<uint64_t>(i));
    return static_cast<float>(stream.normal());
  }
  void add_gradients(int step) {
    engine->begin_step(1);
    for (Param& param : table.params())
      for (int64_t i = 0; param.trained && i < param.numel(); ++i)
        param.grad.f32()[i] += static_cast<float>(gradient(param, i, world.rank(), step));
  }
  GradientVerdict reduce() {
    for (size_t unit = table.units().size(); unit-- > 0;)
      engine->gradients_ready(static_cast<int>(unit));
    return engine->reduce_gradients();
  }

  Communicator world;
  CpuBackend ops;
  ParamTable table;
  EngineOptions options;
  std::optional<Engine> engine;
};

TEST(Engine, SumsOverRanksClipsAndStepsByTheFormula) {
  Fixture f(0.5);
  ASSERT_EQ(f.engine->groups().size(), 4u);
  struct Expected {
    std::vector<double> p, m, v;
  };
  std::vector<Expected> expected;
  for (const Param& param : f.table.params()) {
    std::vector<double> p(param.value.f32(), param.value.f32() + param.numel());
    expected.push_back({p, std::vector<double>(p.size()), std::vector<double>(p.size())});
  }
  for (int t = 1; t <= 3; ++t) {
    f.add_gradients(t);
    const GradientVerdict verdict = f.reduce();
    double squares = 0;
    auto sum_of = [&](const Param& param, int64_t i) {
      double sum = 0;
      for (int r = 0; r < f.world.size(); ++r) sum += Fixture::gradient(param, i, r, t);
      return sum;
    };
    for (const Param& param : f.table.params())
      for (int64_t i = 0; param.trained && i < param.numel(); ++i)
        squares += std::pow(sum_of(param, i), 2);
    EXPECT_TRUE(verdict.finite);
    EXPECT_NEAR(verdict.norm, std::sqrt(squares), 1e-5 * std::sqrt(squares));
    const double clip = 1 / std::max(1.0, (std::sqrt(squares) + 1e-6) / 0.5);
    EXPECT_NEAR(verdict.clip_factor, clip, 1e-5 * clip);
    f.engine->step(verdict, 0.5);
    size_t index = 0;
    for (const Param& param : f.table.params()) {
      Expected& e = expected[index++];
      const bool embed = param.name.find("embed") != std::string::npos;
      const double rate = 0.5 * (embed ? 1e-3 : 1e-2);
      const bool decays = param.role == ParamRole::kWeight || param.role == ParamRole::kEmbedding;
      for (int64_t i = 0; i < param.numel(); ++i) {
        const auto k = static_cast<size_t>(i);
        if (param.trained) {
          const double g = clip * sum_of(param, i);
          e.m[k] = 0.9 * e.m[k] + 0.1 * g;
          e.v[k] = 0.95 * e.v[k] + 0.05 * g * g;
          e.p[k] -= rate * std::sqrt(1 - std::pow(0.95, t)) / (1 - std::pow(0.9, t)) * e.m[k] /
                    (std::sqrt(e.v[k]) + 1e-6);
          if (decays) e.p[k] -= rate * 0.1 * e.p[k];
        }
        ASSERT_NEAR(param.value.f32()[i], e.p[k], 1e-6) << param.name << "[" << i << "] step " << t;
      }
    }
  }
  EXPECT_EQ(f.engine->optimizer_steps(), 3);
}

// Three weights in a row, a bias, another weight: three runs in two groups.
TEST(Engine, ParametersThatAdjoinAreSteppedByOneOperator) {
  Communicator world(MPI_COMM_WORLD);
  CpuBackend ops(1);
  ParamTable table;
  for (const std::string unit : {"u.", "v."}) {
    table.begin_unit(unit);
    for (const char* name : {"a.weight", "b.weight", "c.weight"})
      table.add(unit + name, {3, 5}, ParamRole::kWeight, Init::kZero);
    table.add(unit + "d.bias", {7}, ParamRole::kBias, Init::kZero);
    table.add(unit + "e.weight", {2, 3}, ParamRole::kWeight, Init::kZero);
  }
  table.set_trained("", true);
  const EngineOptions options;
  Engine::lay_out(table, world.size(), options);
  Engine engine(table, make_param_groups(table, {}), world, ops, options);
  engine.begin_step(1);
  for (const int unit : {1, 0}) engine.gradients_ready(unit);
  const int64_t reduced = ops.counts().calls;
  const GradientVerdict verdict = engine.reduce_gradients();
  const int64_t stepped = ops.counts().calls;
  engine.step(verdict, 1);
  EXPECT_EQ(ops.counts().calls - stepped, 2 * 3);
  if (world.size() == 1) {  // else sums over ranks come before the statistics
    EXPECT_EQ(stepped - reduced, 1);
  }
}

TEST(Engine, ANanOnOneRankIsSeenByAllWithItsName) {
  Fixture f;
  f.add_gradients(1);
  if (f.world.rank() == f.world.size() - 1)
    f.table.find("b.embed.weight")->grad.f32()[4] = std::numeric_limits<float>::quiet_NaN();
  const GradientVerdict verdict = f.reduce();
  EXPECT_FALSE(verdict.finite);
  EXPECT_EQ(verdict.first_bad_parameter, "b.embed.weight");
  EXPECT_THROW(f.engine->step(verdict, 1), Error);
  // The next step starts from clean gradients.
  f.add_gradients(2);
  EXPECT_TRUE(f.reduce().finite);
}

TEST(Engine, TheRanksOwnEveryElementOnceAndPublishMakesItKnown) {
  Fixture f;
  // The owner writes values that identify parameter and element; other copies do not count.
  constexpr int64_t kMost = 1000;  // elements of a parameter
  const auto mark = [](const Param& param, int64_t i) {
    return static_cast<float>(param.unit * kMost + param.offset + i);
  };
  for (const Param& param : f.table.params())
    for (int64_t i = 0; param.trained && i < param.numel(); ++i) param.value.f32()[i] = -1;
  std::vector<double> owners(f.table.params().size() * kMost);
  for (const StateRange& range : f.engine->owned_state()) {
    size_t place = 0;
    while (&f.table.params()[place] != range.param) ++place;
    for (int64_t i = 0; i < range.count; ++i) {
      const int64_t element = range.begin + i;
      owners[place * kMost + static_cast<size_t>(element)] += 1;
      range.value[i] = mark(*range.param, element);
      range.exp_avg[i] = mark(*range.param, element) + 0.25f;
      range.exp_avg_sq[i] = mark(*range.param, element) + 0.5f;
    }
  }
  f.engine->publish_state();
  f.world.all_reduce_sum(owners);
  size_t place = 0;
  for (const Param& param : f.table.params()) {
    for (int64_t i = 0; i < kMost; ++i)
      ASSERT_EQ(owners[place * kMost + static_cast<size_t>(i)], param.trained && i < param.numel())
          << param.name << "[" << i << "]";
    for (int64_t i = 0; param.trained && i < param.numel(); ++i)
      ASSERT_EQ(param.value.f32()[i], mark(param, i)) << param.name << "[" << i << "]";
    ++place;
  }
}

TEST(Engine, NoClippingWhenItIsOff) {
  Fixture f(0);
  f.add_gradients(1);
  EXPECT_EQ(f.reduce().clip_factor, 1);
}

}  // namespace
}  // namespace facet
