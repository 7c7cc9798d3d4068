// The stages of ZeRO on a small composed model: the same bits, and elements moved as SPEC 7 says.
// Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "tests/model/language_rig.h"
#include "tests/zero/mpi_counter.h"
#include "zero/engine.h"
#include "zero/zero_plan.h"

namespace facet {
namespace {

using language_rig::add_sample;
using language_rig::kImage;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

VlmConfig full_config() { return language_rig::small_config(); }
VlmConfig lora_config() {
  VlmConfig config = language_rig::small_config();
  config.lang_lora = language_rig::lora("model.layers.");
  config.vis_lora = language_rig::lora("encoder.layers.");
  return config;
}

// What each rank gets: other texts, other images, on the last rank no image in any micro-batch, and
// on rank 0 no label in the second one.
MicroBatch batch_of(const VlmConfig& config, int rank, int ranks, int64_t number) {
  const std::string name = fmt::format("rank {} batch {}", rank, number);
  const auto word = static_cast<int32_t>(3 + (rank * 7 + number * 5) % 40);
  MicroBatch batch;
  if (rank == ranks - 1 && ranks > 1) {
    add_sample(batch, config, {1, word, 40, 41, 2, 6, word, 2}, 3, name);
  } else {
    add_sample(batch, config, {1, 7, kImage, word, 12, kImage, 5, 9, word, 2}, 6, name);
    add_sample(batch, config, {1, word, 17, 2}, rank == 0 && number == 1 ? 4 : 2, name + "b");
  }
  if (rank == 0 && number == 1) std::fill(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
  return batch;
}

struct Result {
  std::vector<double> losses, norms, clip_factors;
  // Of all parameters one behind the other; the frozen ones' moments are 0.
  std::vector<float> values, exp_avg, exp_avg_sq;
};

// Of the range's first element when all parameters lie one behind the other.
int64_t place_of(const ParamTable& table, const StateRange& range) {
  int64_t place = range.begin;
  for (const Param& param : table.params()) {
    if (&param == range.param) return place;
    place += param.numel();
  }
  return -1;
}

struct StageRig {
  StageRig(const VlmConfig& config, bool all_trained, const EngineOptions& options)
      : world(MPI_COMM_WORLD), model(config, table) {
    if (all_trained) table.set_trained("", true);
    Engine::lay_out(table, world.size(), options);
    GroupOptions groups;
    groups.learning_rate = 1e-2;
    groups.weight_decay = 0.1;
    engine.emplace(table, make_param_groups(table, groups), world, ops, options);
    const OpenUnit open = engine->filler();
    for (Param& param : table.params()) {
      open(param.unit);
      const vision_rig::Mat drawn = vision_rig::random_param(param);
      vision_rig::set(param.value, drawn);
    }
    open(kNoUnit);
  }

  void train(int64_t steps, int64_t micro_batches, Result& result) {
    Context context{ops, arena, *engine};
    for (int64_t s = 0; s < steps; ++s) {
      engine->begin_step();
      double loss = 0;
      for (int64_t k = 0; k < micro_batches; ++k) {
        LossSums sums;
        const int64_t number = (s * micro_batches + k) % 4;
        model.forward_backward(
            context, batch_of(model.config(), world.rank(), world.size(), number), 0.05f, sums);
        loss += sums.total_loss();
      }
      const GradientVerdict verdict = engine->reduce_gradients();
      engine->step(verdict, 1);
      result.losses.push_back(world.sum(loss));
      result.norms.push_back(verdict.norm);
      result.clip_factors.push_back(verdict.clip_factor);
    }
  }

  // Whole values on every rank; of the moments each rank contributes what it owns.
  void collect(Result& result) {
    std::string bytes;
    engine->read_on_rank_0([&](const OpenUnit& open) {
      for (const Param& param : table.params()) {
        open(param.unit);
        bytes.append(param.value.data<char>(), static_cast<size_t>(param.value.bytes()));
      }
    });
    world.broadcast(bytes, 0);
    result.values.resize(bytes.size() / sizeof(float));
    std::memcpy(result.values.data(), bytes.data(), bytes.size());
    result.exp_avg.assign(result.values.size(), 0);
    result.exp_avg_sq = result.exp_avg;
    for (const StateRange& range : engine->owned_state()) {
      const int64_t place = place_of(table, range);
      std::copy_n(range.exp_avg, range.count, result.exp_avg.begin() + place);
      std::copy_n(range.exp_avg_sq, range.count, result.exp_avg_sq.begin() + place);
    }
    for (std::vector<float>* moment : {&result.exp_avg, &result.exp_avg_sq})
      world.all_reduce_sum(
          Tensor(moment->data(), {static_cast<int64_t>(moment->size())}, DType::kF32));
  }

  Communicator world;
  ParamTable table;
  VisionLanguageModel model;
  CpuBackend ops{1};
  Arena arena{"activations", int64_t{64} << 20};
  std::optional<Engine> engine;
};

Result run(const VlmConfig& config, bool all_trained, const EngineOptions& options,
           int64_t micro_batches) {
  StageRig rig(config, all_trained, options);
  Result result;
  rig.train(3, micro_batches, result);
  rig.collect(result);
  return result;
}

void expect_same(const Result& a, const Result& b, const std::string& what) {
  EXPECT_EQ(a.losses, b.losses) << what;
  EXPECT_EQ(a.norms, b.norms) << what;
  EXPECT_TRUE(same_bits(a.values, b.values)) << what;
  EXPECT_TRUE(same_bits(a.exp_avg, b.exp_avg)) << what;
  EXPECT_TRUE(same_bits(a.exp_avg_sq, b.exp_avg_sq)) << what;
}

EngineOptions options_of(int64_t stage, bool every_micro_batch, int64_t threshold = 0) {
  EngineOptions options;
  options.gradient_clipping = 0.1;
  options.zero_stage = stage;
  options.reduce_every_micro_batch = every_micro_batch;
  options.stage3 = {threshold, {}};
  return options;
}

class Stages : public testing::TestWithParam<std::tuple<bool, bool>> {};  // all trained, recompute

TEST_P(Stages, EqualBitsWhenTheyReduceEveryMicroBatch) {
  const auto [all_trained, recompute] = GetParam();
  VlmConfig config = all_trained ? full_config() : lora_config();
  config.recompute = recompute;
  const Result expected = run(config, all_trained, options_of(0, true), 3);
  EXPECT_LT(*std::max_element(expected.clip_factors.begin(), expected.clip_factors.end()), 1);
  EXPECT_NE(expected.losses.front(), expected.losses.back());
  for (const int64_t stage : {1, 2, 3})
    expect_same(run(config, all_trained, options_of(stage, true), 3), expected,
                fmt::format("stage {}", stage));
  // Small blocks stay whole; 2000 elements lie between the blocks' sizes.
  EngineOptions options = options_of(3, true, 2000);
  expect_same(run(config, all_trained, options, 3), expected, "threshold");
  options.stage3.residency = {12000, 1000000};
  expect_same(run(config, all_trained, options, 3), expected, "prefetch");
}

TEST_P(Stages, EqualBitsWithOneMicroBatch) {
  const auto [all_trained, recompute] = GetParam();
  VlmConfig config = all_trained ? full_config() : lora_config();
  config.recompute = recompute;
  const Result expected = run(config, all_trained, options_of(0, false), 1);
  for (const int64_t stage : {1, 2, 3})
    expect_same(run(config, all_trained, options_of(stage, false), 1), expected,
                fmt::format("stage {}", stage));
}

TEST_P(Stages, ZeroAndOneAreEqualWhenTheyReduceOnceAStep) {
  const auto [all_trained, recompute] = GetParam();
  VlmConfig config = all_trained ? full_config() : lora_config();
  config.recompute = recompute;
  const Result once = run(config, all_trained, options_of(0, false), 3);
  expect_same(run(config, all_trained, options_of(1, false), 3), once, "stage 1");
  // The sums are the same but for rounding however often they are formed.
  const Result every = run(config, all_trained, options_of(0, true), 3);
  for (size_t s = 0; s < once.norms.size(); ++s) {
    EXPECT_NEAR(every.norms[s], once.norms[s], 1e-4 * once.norms[s]);
    EXPECT_NEAR(every.losses[s], once.losses[s], 1e-4 * once.losses[s]);
  }
}

INSTANTIATE_TEST_SUITE_P(FullAndLora, Stages, testing::Combine(testing::Bool(), testing::Bool()));

// What a unit's owner loads is what all see and step on, at every stage.
TEST(StagesState, ALoadedStateContinuesTheRunAtAnotherStage) {
  Result expected;
  StageRig first(full_config(), true, options_of(0, true));
  first.train(2, 2, expected);
  Result middle;
  first.collect(middle);
  first.train(1, 2, expected);  // plays its first batches again, as the others do
  first.collect(expected);
  for (const int64_t stage : {0, 1, 2, 3}) {
    StageRig second(full_config(), true, options_of(stage, true, 1000));
    for (const StateRange& range : second.engine->owned_state()) {
      const int64_t place = place_of(second.table, range);
      std::copy_n(middle.values.begin() + place, range.count, range.value);
      std::copy_n(middle.exp_avg.begin() + place, range.count, range.exp_avg);
      std::copy_n(middle.exp_avg_sq.begin() + place, range.count, range.exp_avg_sq);
    }
    second.engine->set_optimizer_steps(2);
    second.engine->publish_state();
    Result continued;
    second.train(1, 2, continued);
    second.collect(continued);
    EXPECT_EQ(continued.losses.back(), expected.losses.back()) << "stage " << stage;
    EXPECT_TRUE(same_bits(continued.values, expected.values)) << "stage " << stage;
    EXPECT_TRUE(same_bits(continued.exp_avg, expected.exp_avg)) << "stage " << stage;
    EXPECT_TRUE(same_bits(continued.exp_avg_sq, expected.exp_avg_sq)) << "stage " << stage;
  }
}

// ---- what moves, and what is kept

// Two units: 42 and 41 trained elements, the second with 9 frozen ones.
void declare_two_units(ParamTable& table) {
  table.begin_unit("a");
  table.add("a.weight", {7, 5}, ParamRole::kWeight, Init::kNormal002);
  table.add("a.bias", {7}, ParamRole::kBias, Init::kNormal002);
  table.begin_unit("b");
  table.add("b.weight", {41}, ParamRole::kWeight, Init::kNormal002);
  table.add("b.frozen.weight", {3, 3}, ParamRole::kWeight, Init::kNormal002);
  table.set_trained("", true);
  table.set_trained("b.frozen", false);
}

// As a model of two blocks calls them.
void pass(UnitHooks& hooks) {
  for (const int unit : {0, 1}) {
    hooks.before(unit, Phase::kForward);
    hooks.after(unit, Phase::kForward);
  }
  for (const int unit : {1, 0}) {
    hooks.before(unit, Phase::kBackward);
    hooks.before(unit, Phase::kRecompute);
    hooks.after(unit, Phase::kRecompute);
    hooks.after(unit, Phase::kBackward);
    hooks.gradients_ready(unit);
  }
}

struct TwoUnits {
  explicit TwoUnits(const EngineOptions& options) : world(MPI_COMM_WORLD) {
    declare_two_units(table);
    Engine::lay_out(table, world.size(), options);
    engine.emplace(table, make_param_groups(table, GroupOptions{}), world, ops, options);
    const OpenUnit open = engine->filler();
    for (Param& param : table.params()) {
      open(param.unit);
      std::fill_n(param.value.f32(), param.numel(), static_cast<float>(param.numel()));
    }
    open(kNoUnit);
  }
  Communicator world;
  ParamTable table;
  CpuBackend ops{1};
  std::optional<Engine> engine;
};

TEST(StagesTraffic, ElementsSentAreTheFormulas) {
  // SPEC 7 with k = 3, Psi and Phi padded for N ranks of 16 elements:
  //   N  Psi         Phi
  //   1  48+48 =  96  16
  //   2  64+64 = 128  32
  //   3  48+48 =  96  48
  //   4  64+64 = 128  64
  // stage 0, 1: 2 Psi (N-1)/N;  every micro-batch, and 2: (k+1) Psi (N-1)/N;
  // stage 3: k (2 (Psi + Phi) + Psi) (N-1)/N.
  const std::array<std::array<int64_t, 3>, 4> expected = {
      {{0, 0, 0}, {128, 256, 672}, {128, 256, 768}, {192, 384, 1152}}};
  const int ranks = Communicator(MPI_COMM_WORLD).size();
  ASSERT_LE(ranks, 4);
  const auto& [once, every, third] = expected[static_cast<size_t>(ranks - 1)];
  const auto moved = [&](const EngineOptions& options) {
    TwoUnits rig(options);
    const int64_t before = mpi_floats_sent(), counted = rig.world.elements_sent();
    rig.engine->begin_step();
    for (int k = 0; k < 3; ++k) pass(*rig.engine);
    rig.engine->step(rig.engine->reduce_gradients(), 1);
    EXPECT_EQ(rig.world.elements_sent() - counted, mpi_floats_sent() - before);
    MeasuringHooks planned(rig.table, ranks, options);
    pass(planned);
    EXPECT_EQ(
        planned_elements(rig.table, ranks, options, 3, planned.elements_gathered_per_micro_batch()),
        mpi_floats_sent() - before);
    return mpi_floats_sent() - before;
  };
  EXPECT_EQ(moved(options_of(0, false)), once);
  EXPECT_EQ(moved(options_of(1, false)), once);
  EXPECT_EQ(moved(options_of(0, true)), every);
  EXPECT_EQ(moved(options_of(1, true)), every);
  EXPECT_EQ(moved(options_of(2, false)), every);
  EXPECT_EQ(moved(options_of(3, false)), third);
  EngineOptions ahead = options_of(3, false);
  ahead.stage3.residency = {1000, 1000};  // sent earlier, not more
  EXPECT_EQ(moved(ahead), third);
}

TEST(StagesMemory, PlannedBytesAreTheFormulas) {
  struct Expected {
    int64_t values, gradients, optimizer, live;
  };
  // On 2 ranks: Psi = 64 + 64, Phi = 9 (padded to 32 where it is cut up); 4 bytes each, pieces
  // rounded up to 64 bytes. Live: at stage 2 the gradients of a unit, at stage 3 the values of one
  // as well: 64 + 32 elements.
  const Expected expected[] = {
      {576, 512, 1024, 0}, {576, 512, 512, 0}, {576, 256, 512, 256}, {320, 256, 512, 640}};
  for (int64_t stage = 0; stage < 4; ++stage) {
    ParamTable table;
    declare_two_units(table);
    const EngineOptions options = options_of(stage, false);
    Engine::lay_out(table, 2, options, ParamTable::Memory::kMeasureOnly);
    const ZeroBytes bytes = planned_bytes(table, 2, options);
    MeasuringHooks hooks(table, 2, options);
    pass(hooks);
    const Expected& e = expected[stage];
    EXPECT_EQ(bytes.values, e.values) << stage;
    EXPECT_EQ(bytes.gradients, e.gradients) << stage;
    EXPECT_EQ(bytes.optimizer, e.optimizer) << stage;
    EXPECT_EQ(hooks.gathered_bytes() + hooks.bucket_bytes(), e.live) << stage;
  }
}

// The kernel reads the memory for us: EFAULT instead of a crash.
bool readable(const Tensor& x) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  const bool read = write(ends[1], x.raw(), 4) == 4;
  close(ends[0]);
  close(ends[1]);
  return read;
}

TEST(StagesMemory, AUnitOutsideItsUseIsNotThere) {
  TwoUnits rig(options_of(3, false));
  const Tensor& value = rig.table.find("b.weight")->value;
  const Tensor& frozen = rig.table.find("b.frozen.weight")->value;
  EXPECT_FALSE(readable(value));
  EXPECT_FALSE(readable(frozen));
  rig.engine->before(1, Phase::kBackward);
  rig.engine->before(1, Phase::kRecompute);
  EXPECT_EQ(vision_rig::floats_of(value), std::vector<float>(41, 41));
  EXPECT_EQ(vision_rig::floats_of(frozen), std::vector<float>(9, 9));
  rig.engine->after(1, Phase::kRecompute);
  EXPECT_EQ(vision_rig::floats_of(value), std::vector<float>(41, 41));
  EXPECT_TRUE(readable(rig.table.find("b.weight")->grad));
  EXPECT_FALSE(readable(rig.table.find("a.weight")->grad));
  rig.engine->after(1, Phase::kBackward);
  EXPECT_FALSE(readable(value));
  rig.engine->gradients_ready(1);
  EXPECT_FALSE(readable(rig.table.find("b.weight")->grad));
}

TEST(StagesMemory, SmallUnitsStayWhole) {
  TwoUnits rig(options_of(3, false, 43));  // a has 42 elements, b 50
  EXPECT_TRUE(readable(rig.table.find("a.weight")->value));
  EXPECT_FALSE(readable(rig.table.find("b.weight")->value));
  const int64_t sent = rig.world.elements_sent();
  rig.engine->before(0, Phase::kForward);
  rig.engine->after(0, Phase::kForward);
  EXPECT_EQ(rig.world.elements_sent(), sent);
  EXPECT_TRUE(readable(rig.table.find("a.weight")->value));
}

TEST(StagesRead, AnErrorOfTheReaderLeavesTheRanksInStep) {
  TwoUnits rig(options_of(3, false));
  bool thrown = false;
  try {
    rig.engine->read_on_rank_0([&](const OpenUnit& open) {
      open(1);
      fail(ExitCode::kInternal, "the disk is full");
    });
  } catch (const Error&) {
    thrown = true;
  }
  EXPECT_EQ(thrown, rig.world.rank() == 0);
  EXPECT_FALSE(readable(rig.table.find("b.weight")->value));
  EXPECT_EQ(rig.world.sum(int64_t{1}), rig.world.size());
}

}  // namespace
}  // namespace facet
