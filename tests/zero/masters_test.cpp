// In 16 bits the engine steps fp32 masters, and the layers see them rounded once. Gradients are
// made up, so that no operator takes part: the masters then do to the bit what the values of an
// fp32 run do. Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "kernels/cpu/backend.h"
#include "tests/zero/small_table.h"
#include "tests/zero/two_units.h"
#include "zero/engine.h"
#include "zero/zero_plan.h"

namespace facet {
namespace {

using Numbers = std::map<std::string, std::vector<float>>;  // by parameter

// Needs all bits of fp32.
float filled(const Param& param, int64_t i) {
  return static_cast<float>(RandomStream(1, param.name, static_cast<uint64_t>(i)).normal());
}

struct Rig {
  Rig(DType dtype, int64_t stage, int64_t threshold = 0) : world(MPI_COMM_WORLD) {
    declare_small_table(table);
    options.compute_dtype = dtype;
    options.zero_stage = stage;
    options.reduce_every_micro_batch = true;
    options.gradient_clipping = 0.5;
    options.stage3 = {threshold, {}};
    Engine::lay_out(table, world.size(), options);
    GroupOptions rates;
    rates.learning_rate = 1e-2;
    rates.weight_decay = 0.1;
    engine.emplace(table, make_param_groups(table, rates), world, ops, options);
    fill(filled);
  }

  void fill(float (*value_of)(const Param&, int64_t)) {
    const OpenUnit open = engine->filler();
    for (Param& param : table.params()) {
      open(param.unit);
      for (int64_t i = 0; i < param.numel(); ++i) param.value.f32()[i] = value_of(param, i);
    }
    open(kNoUnit);
  }

  // Two micro-batches of gradients of every rank's own, multiplied by the scale.
  GradientVerdict reduce(int step, double loss_scale = 1) {
    engine->begin_step(2);
    for (uint64_t k = 0; k < 2; ++k)
      for (int unit = static_cast<int>(table.units().size()) - 1; unit >= 0; --unit) {
        engine->before(unit, Phase::kBackward);
        for (Param* param : table.units()[static_cast<size_t>(unit)].params) {
          RandomStream stream(static_cast<uint64_t>(step), param->name,
                              static_cast<uint64_t>(world.rank()), k);
          for (int64_t i = 0; param->trained && i < param->numel(); ++i)
            param->grad.f32()[i] += static_cast<float>(loss_scale * stream.uniform_double());
        }
        engine->after(unit, Phase::kBackward);
        engine->gradients_ready(unit);
      }
    return engine->reduce_gradients(loss_scale);
  }
  void train(int steps, double loss_scale = 1) {
    for (int step = 0; step < steps; ++step) engine->step(reduce(step, loss_scale), 1);
  }

  // What rank 0 reads, on every rank.
  Numbers read() {
    Numbers numbers;
    engine->read_on_rank_0([&](const OpenUnit& open) {
      for (const Param& param : table.params()) {
        open(param.unit);
        numbers[param.name].assign(param.value.f32(), param.value.f32() + param.numel());
      }
    });
    for (const Param& param : table.params()) {
      std::vector<float>& values = numbers[param.name];
      values.resize(static_cast<size_t>(param.numel()));
      world.broadcast(Tensor(values.data(), {param.numel()}, DType::kF32), 0);
    }
    return numbers;
  }

  // What a layer of this rank sees, widened.
  Numbers seen() {
    Numbers numbers;
    for (size_t u = 0; u < table.units().size(); ++u) {
      engine->before(static_cast<int>(u), Phase::kForward);
      for (const Param* param : table.units()[u].params) {
        std::vector<float>& values = numbers[param->name];
        for (int64_t i = 0; i < param->numel(); ++i)
          values.push_back(
              options.compute_dtype == DType::kF32
                  ? param->value.f32()[i]
                  : float_from_16_bits(param->value.bits16()[i], options.compute_dtype));
      }
      engine->after(static_cast<int>(u), Phase::kForward);
    }
    return numbers;
  }

  Communicator world;
  ParamTable table;
  CpuBackend ops{2};
  EngineOptions options;
  std::optional<Engine> engine;
};

Numbers rounded(const Numbers& numbers, DType dtype) {
  Numbers result = numbers;
  if (dtype == DType::kF32) return result;
  for (auto& [name, values] : result)
    for (float& value : values) value = float_from_16_bits(round_to_16_bits(value, dtype), dtype);
  return result;
}

Numbers only(const Numbers& numbers, const Rig& rig, bool trained) {
  Numbers result;
  for (const Param& param : rig.table.params())
    if (param.trained == trained) result[param.name] = numbers.at(param.name);
  return result;
}

class Masters : public testing::TestWithParam<std::tuple<DType, int64_t>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  int64_t stage() const { return std::get<1>(GetParam()); }
};

TEST_P(Masters, KeepWhatWasFilledAndLayersSeeItRounded) {
  for (const int64_t threshold : {0, 10}) {
    Rig rig(dtype(), stage(), threshold), wide(DType::kF32, 0);
    const Numbers values = wide.read();
    const Numbers read = rig.read();
    EXPECT_EQ(only(read, rig, true), only(values, rig, true));
    EXPECT_EQ(only(read, rig, false), only(rounded(values, dtype()), rig, false));
    EXPECT_EQ(rig.seen(), rounded(values, dtype()));
    EXPECT_EQ(rig.read(), read) << "reading changes nothing";
  }
}

TEST_P(Masters, StepAsFp32DoesAndTheCopiesFollow) {
  for (const int64_t threshold : {0, 10}) {
    Rig rig(dtype(), stage(), threshold), wide(DType::kF32, 0);
    rig.train(3);
    wide.train(3);
    const Numbers masters = rig.read(), expected = wide.read();
    EXPECT_EQ(only(masters, rig, true), only(expected, rig, true));
    EXPECT_EQ(only(rig.seen(), rig, true), only(rounded(expected, dtype()), rig, true));
    EXPECT_EQ(only(rig.seen(), rig, false),
              only(rounded(Rig(DType::kF32, 0).read(), dtype()), rig, false));
  }
}

// The scale of the loss is a power of two: taking it out again leaves no trace.
TEST_P(Masters, TheLossScaleIsTakenOutOfNormAndStep) {
  Rig plain(dtype(), stage()), scaled(dtype(), stage());
  const GradientVerdict a = plain.reduce(0), b = scaled.reduce(0, 4096);
  EXPECT_EQ(a.norm, b.norm);
  EXPECT_EQ(a.clip_factor, b.clip_factor);
  EXPECT_LT(a.clip_factor, 1);
  plain.train(2);
  scaled.train(2, 4096);
  EXPECT_EQ(plain.read(), scaled.read());
}

// A checkpoint of an fp32 run continues in 16 bits, and one of 16 bits in fp32.
TEST_P(Masters, ALoadedStateIsMastersExactlyInAnyPrecision) {
  Rig first(DType::kF32, 0);
  first.train(2);
  const Numbers values = first.read();
  for (const DType other : {dtype(), DType::kF32}) {
    Rig rig(other, stage(), 10);
    for (const StateRange& range : rig.engine->owned_state())
      std::copy_n(values.at(range.param->name).begin() + range.begin, range.count, range.value);
    rig.engine->publish_state();
    EXPECT_EQ(only(rig.read(), rig, true), only(values, rig, true));
    EXPECT_EQ(only(rig.seen(), rig, true), only(rounded(values, other), rig, true));
  }
}

TEST_P(Masters, AStateLoadedIntoSlicesReachesTheFullCopies) {
  Rig rig(dtype(), stage());
  for (const StateRange& range : rig.engine->owned_state())
    std::fill_n(range.value, range.count, 1 + 1e-7f * static_cast<float>(range.param->unit));
  rig.engine->publish_state();
  for (const auto& [name, values] : only(rig.seen(), rig, true))
    EXPECT_EQ(values, std::vector<float>(values.size(), 1)) << name;
}

INSTANTIATE_TEST_SUITE_P(Types, Masters,
                         testing::Combine(testing::Values(DType::kBF16, DType::kF16),
                                          testing::Values(0, 1, 2, 3)));

// The last bit of fp32, which no 16-bit type shows.
float filled_otherwise(const Param& param, int64_t i) {
  const float value = filled(param, i);
  return param.name == "b.frozen.weight" && i == 14
             ? std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ 1u)
             : value;
}

TEST(FrozenHash, IsOfWhatWasFilledAtAnyStageInAnyPrecision) {
  const uint64_t expected = Rig(DType::kF32, 0).engine->frozen_hash();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for (const int64_t stage : {0, 1, 2, 3}) {
      Rig rig(dtype, stage, stage == 3 ? 10 : 0);
      EXPECT_EQ(rig.engine->frozen_hash(), expected) << name_of(dtype) << " stage " << stage;
      rig.train(1);
      EXPECT_EQ(rig.engine->frozen_hash(), expected) << "trained";
      rig.fill(filled_otherwise);
      EXPECT_NE(rig.engine->frozen_hash(), expected) << name_of(dtype) << " stage " << stage;
    }
}

float place_in_table(const Param& param, int64_t i) {
  return static_cast<float>(param.unit) + 0.5f * static_cast<float>(i);
}

// The number of ranks does not show: the value was computed on one rank.
TEST(FrozenHash, IsTheSameOnAnyNumberOfRanks) {
  Rig rig(DType::kBF16, 3);
  rig.fill(place_in_table);
  EXPECT_EQ(rig.engine->frozen_hash(), 17454737108808287433u);
}

// docs/computes.md, "ZeRO", on 2 ranks with Psi = 64 + 64 and Phi = 9, padded to 32 where it is cut
// up; pieces rounded up to 64 bytes: 18 Psi + 2 Phi, (6 + 12/N) Psi + 2 Phi, (2 + 16/N) Psi + 2
// Phi, (18 Psi + 2 Phi)/N.
TEST(MastersMemory, PlannedBytesAreTheFormulas) {
  struct Expected {
    int64_t values, gradients, optimizer;
  };
  const Expected expected[] = {{320, 512, 1536}, {320, 512, 768}, {320, 256, 768}, {192, 256, 768}};
  for (int64_t stage = 0; stage < 4; ++stage) {
    ParamTable table;
    two_units::declare_two_units(table);
    EngineOptions options;
    options.compute_dtype = DType::kBF16;
    options.zero_stage = stage;
    options.stage3 = {0, {}};
    Engine::lay_out(table, 2, options, ParamTable::Memory::kMeasureOnly);
    const ZeroBytes bytes = planned_bytes(table, 2, options);
    EXPECT_EQ(bytes.values, expected[stage].values) << stage;
    EXPECT_EQ(bytes.gradients, expected[stage].gradients) << stage;
    EXPECT_EQ(bytes.optimizer, expected[stage].optimizer) << stage;
    EXPECT_EQ(bytes.window, (64 + 32) * 4) << stage;
    MeasuringHooks hooks(table, 2, options);
    two_units::pass(hooks);
    EXPECT_EQ(hooks.gathered_bytes(), stage == 3 ? (64 + 32) * 2 : 0);
  }
}

TEST(Masters, AWeightThatFp16CannotHoldIsRefusedByName) {
  for (const int64_t stage : {0, 3})
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      Rig rig(dtype, stage);
      const auto fill_too_large = [&] {
        rig.fill([](const Param&, int64_t) { return -65520.0f; });
      };
      if (dtype == DType::kBF16)
        EXPECT_NO_THROW(fill_too_large());
      else
        EXPECT_THROW(fill_too_large(), Error);
      Rig just_fits(DType::kF16, stage);
      EXPECT_NO_THROW(just_fits.fill([](const Param&, int64_t) { return 65519.0f; }));
    }
}

// What is sent is the same number of elements, whatever their size.
TEST(MastersTraffic, ElementsSentAreThoseOfFp32) {
  for (const int64_t stage : {0, 1, 2, 3}) {
    std::vector<int64_t> sent;
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      Rig rig(dtype, stage);
      const int64_t before = rig.world.elements_sent();
      rig.train(1);
      rig.seen();
      sent.push_back(rig.world.elements_sent() - before);
    }
    EXPECT_EQ(sent, std::vector<int64_t>(3, sent[0])) << stage;
  }
}

}  // namespace
}  // namespace facet
