// One training step: how losses are averaged, and that a skipped step changes nothing.
#include "train/train_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "base/progress.h"
#include "comm/mpi_session.h"
#include "optim/partition.h"
#include "tests/model/language_rig.h"
#include "train/measured_pass.h"
#include "train/poisoning_hooks.h"

namespace facet {
namespace {

using language_rig::add_sample;
using language_rig::kImage;

// Returns what the test put in.
class ScriptedSource : public BatchSource {
 public:
  std::vector<std::vector<MicroBatch>> steps;

  int64_t steps_per_epoch() const override { return static_cast<int64_t>(steps.size()); }
  std::span<const MicroBatch> fetch_step(int64_t, int64_t step) override {
    if (failing) fail(ExitCode::kBadData, "record 7 is unreadable");
    return steps[static_cast<size_t>(step)];
  }
  int64_t num_evaluation_micro_batches() const override { return 0; }
  const MicroBatch& fetch_evaluation(int64_t) override { return steps[0][0]; }
  std::span<const int64_t> bad_samples_of_last_fetch() const override { return bad; }

  bool failing = false;
  std::vector<int64_t> bad;
};

// A small model with its engine; every rig starts from the same parameters.
struct StepRig {
  explicit StepRig(LossAverage average = LossAverage::kGlobal)
      : world(MPI_COMM_WORLD),
        model(language_rig::small_config(), table),
        schedule(ScheduleType::kLinear, 0, 100, 2e-3) {
    table.set_trained("", true);
    table.allocate(partition_padding(world.size()));
    table.allocate_gradients();
    for (Param& param : table.params()) {
      if (param.init == Init::kNone)
        param.init = param.role == ParamRole::kNormWeight ? Init::kOne : Init::kNormal002;
      ParamTable::draw(param, 3);
    }
    GroupOptions groups;
    groups.learning_rate = 2e-3;
    engine.emplace(table, make_param_groups(table, groups), world, ops, EngineOptions{});
    step.emplace(parts(*engine, average));
  }
  StepParts parts(UnitHooks& around, LossAverage average = LossAverage::kGlobal) {
    return {.world = world,
            .source = source,
            .model = model,
            .context = {ops, arena, around},
            .loss_average = average,
            .scaler = scaler ? &*scaler : nullptr,
            .engine = *engine,
            .schedule = schedule,
            .faults = faults};
  }
  void scale_loss(const LossScalerOptions& options) {
    scaler.emplace(options);
    step.emplace(parts(*engine));
  }
  void inject(const std::string& text) {
    faults = FaultInjection::parse(text);
    poison.emplace(table, *engine, ops, faults, world.rank());
    step.emplace(parts(*poison));
  }
  // Loss and labels of a micro-batch, from the model itself.
  LossSums measured(const MicroBatch& batch) {
    LossSums sums;
    Context context{ops, arena, hooks};
    model.evaluate(context, batch, sums);
    return sums;
  }
  std::vector<float> values() const {
    std::vector<float> all;
    for (const ParamUnit& unit : table.units()) {
      const float* begin = unit.trained_values.f32();
      all.insert(all.end(), begin, begin + unit.trained_values.numel());
    }
    return all;
  }

  Communicator world;
  FaultInjection faults;
  ParamTable table;
  VisionLanguageModel model;
  CpuBackend ops{1};
  Arena arena{"activations", int64_t{64} << 20};
  UnitHooks hooks;
  LrSchedule schedule;
  ScriptedSource source;
  std::optional<Engine> engine;
  std::optional<LossScaler> scaler;
  std::optional<PoisoningHooks> poison;
  std::optional<TrainStep> step;
};

MicroBatch long_sample() {
  MicroBatch batch;
  add_sample(batch, language_rig::small_config(), {1, 7, kImage, 3, 12, 5, 9, 9, 2}, 3, "long");
  return batch;
}
MicroBatch short_sample() {
  MicroBatch batch;
  add_sample(batch, language_rig::small_config(), {1, 8, 31, 2}, 3, "short");
  return batch;
}
MicroBatch both_samples() {
  MicroBatch batch;
  add_sample(batch, language_rig::small_config(), {1, 7, kImage, 3, 12, 5, 9, 9, 2}, 3, "long");
  add_sample(batch, language_rig::small_config(), {1, 8, 31, 2}, 3, "short");
  return batch;
}
MicroBatch unlabelled_sample() {
  MicroBatch batch;
  add_sample(batch, language_rig::small_config(), {1, 8, 31, 2}, 4, "none");
  return batch;
}

TEST(TrainStep, GlobalAverageDoesNotSeeTheCutIntoMicroBatches) {
  StepRig whole, cut;
  whole.source.steps = {{both_samples()}};
  cut.source.steps = {{long_sample(), short_sample()}};
  const StepReport a = whole.step->run(0, 0);
  const StepReport b = cut.step->run(0, 0);
  EXPECT_EQ(a.labelled_tokens, 7 * whole.world.size());
  EXPECT_EQ(b.labelled_tokens, a.labelled_tokens);
  EXPECT_EQ(b.micro_batches, 2);
  EXPECT_EQ(a.tokens, (9 + 4 + 4) * whole.world.size());  // S = 5: an image is 4 tokens more
  EXPECT_NEAR(a.loss, b.loss, 1e-6);
  EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-5 * a.grad_norm);

  StepRig fresh;
  const LossSums sums = fresh.measured(both_samples());
  EXPECT_NEAR(a.loss, sums.total_loss() / 7, 1e-6);
}

// On micro-batches of the shape that it counts, a step takes the operations that `plan` names.
TEST(TrainStep, OperationsAreThoseOfThePlan) {
  const BatchShape shape{2, 9, 1};  // an image is 5 tokens
  MicroBatch batch;
  for (int b = 0; b < 2; ++b)
    add_sample(batch, language_rig::small_config(), {kImage, 1, 7, 3, 12}, 1, "planned");
  StepRig rig;
  rig.source.steps = {{batch, batch}, {long_sample()}};
  const OpCounts counts = count_operations(rig.model, shape, DType::kF32);
  EXPECT_EQ(rig.step->run(0, 0).model_flops,
            2 * rig.world.size() * (counts.matmul_flops + counts.attention_flops));
  EXPECT_LT(rig.step->run(0, 1).model_flops, counts.matmul_flops * rig.world.size());
}

// What samples are dealt by: each adds to a micro-batch what the model counts for it.
TEST(TrainStep, AWorkModelCountsWhatThePassCounts) {
  for (const bool mmca : {false, true})
    for (const char* projection : {"baseline", "vit"}) {
      VlmConfig config = language_rig::small_config();
      config.mmca = mmca;
      config.projection =
          projection == std::string("vit") ? ProjectionKind::kVit : ProjectionKind::kBaseline;
      language_rig::Rig rig(config, "default");
      const WorkModel work = work_model(rig.model, DType::kF32);
      const auto counted = [&](const MicroBatch& batch) {
        const OpCounts counts = count_operations(rig.model, batch, DType::kF32);
        return counts.matmul_flops + counts.attention_flops;
      };
      const std::vector<int32_t> ids = {1, 7, kImage, 3, 12, kImage, 5, 9, 9, 2};
      MicroBatch with, without;
      add_sample(without, config, {kImage, 8, 31, 17, 2}, 2, "first");
      with = without;
      add_sample(with, config, ids, 7, "two");
      const PreparedSample added{ids, {with.labels.end() - 10, with.labels.end()}, {}, 2};
      EXPECT_EQ(work.operations(work.shape(added, kImage)), counted(with) - counted(without));
    }
}

TEST(TrainStep, PhasesAddUpToTheStep) {
  StepRig rig;
  rig.source.steps = {{long_sample(), short_sample()}};
  const auto before = std::chrono::system_clock::now();
  const StepReport& report = rig.step->run(0, 0);
  EXPECT_EQ(report.phases.total(), report.seconds);
  for (size_t i = 0; i < kNumStepPhases; ++i) EXPECT_GT(report.phases.nanoseconds[i], 0) << i;
  EXPECT_GE(report.end, before);
  EXPECT_LE(report.end, std::chrono::system_clock::now());
  EXPECT_EQ(report.memory_bytes, Arena::most_held());
}

TEST(TrainStep, MicroBatchAverageIsTheMeanOfMeans) {
  StepRig rig(LossAverage::kMicroBatch), fresh;
  rig.source.steps = {{long_sample(), short_sample()}};
  const StepReport report = rig.step->run(0, 0);
  const double mean_of_means = (fresh.measured(long_sample()).total_loss() / 6 +
                                fresh.measured(short_sample()).total_loss() / 1) /
                               2;
  EXPECT_NEAR(report.loss, mean_of_means, 1e-6);
}

TEST(TrainStep, MicroBatchWithoutLabelsAddsZeroAndIsCounted) {
  StepRig with, without;
  with.source.steps = {{long_sample(), unlabelled_sample()}};
  without.source.steps = {{long_sample()}};
  const StepReport a = with.step->run(0, 0);
  const StepReport b = without.step->run(0, 0);
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.grad_norm, b.grad_norm);
  EXPECT_EQ(a.unlabelled_micro_batches, with.world.size());
  EXPECT_EQ(b.unlabelled_micro_batches, 0);

  StepRig nothing(LossAverage::kMicroBatch);
  nothing.source.steps = {{unlabelled_sample()}};
  const StepReport c = nothing.step->run(0, 0);
  EXPECT_EQ(c.loss, 0);
  EXPECT_EQ(c.grad_norm, 0);
  EXPECT_FALSE(c.skipped);
}

TEST(TrainStep, NonFiniteGradientLeavesEverythingAlone) {
  StepRig rig, calm;
  MicroBatch poisoned = long_sample();
  poisoned.pixels[0] = std::numeric_limits<float>::quiet_NaN();
  rig.source.steps = {{long_sample()}, {poisoned}, {short_sample()}};
  calm.source.steps = {{long_sample()}, {short_sample()}};

  rig.step->run(0, 0);
  const std::vector<float> before = rig.values();
  const StepReport skipped = rig.step->run(0, 1);
  EXPECT_TRUE(skipped.skipped);
  EXPECT_NE(skipped.first_bad_parameter, "");
  EXPECT_EQ(rig.values(), before);
  EXPECT_EQ(rig.engine->optimizer_steps(), 1);

  // The next step is what it would have been without the bad one: rate, moments and all.
  const StepReport after = rig.step->run(0, 2);
  calm.step->run(0, 0);
  const StepReport expected = calm.step->run(0, 1);
  EXPECT_FALSE(after.skipped);
  EXPECT_EQ(after.learning_rates, expected.learning_rates);
  EXPECT_EQ(after.loss, expected.loss);
  EXPECT_EQ(rig.values(), calm.values());
}

// Scaling by a power of two is exact in fp32: a step that is unscaled by another scale than the one
// it was computed with, such as the one grown since, would show.
TEST(TrainStep, EachStepIsUnscaledByTheScaleItWasComputedWith) {
  StepRig rig, plain;
  LossScalerOptions options;
  options.initial_scale = 1024;
  options.window = 3;
  rig.scale_loss(options);
  rig.source.steps = plain.source.steps = {{long_sample()}, {short_sample(), both_samples()}};
  const double scales[] = {1024, 1024, 1024, 2048, 2048, 2048, 4096, 4096};
  for (int64_t i = 0; i < 8; ++i) {
    const StepReport scaled = rig.step->run(0, i % 2), expected = plain.step->run(0, i % 2);
    EXPECT_EQ(scaled.loss_scale, scales[i]);
    EXPECT_EQ(expected.loss_scale, 1);
    EXPECT_EQ(scaled.loss, expected.loss);
    EXPECT_EQ(scaled.grad_norm, expected.grad_norm);
    EXPECT_EQ(scaled.clip_factor, expected.clip_factor);
    EXPECT_EQ(rig.values(), plain.values()) << "step " << i;
  }
}

TEST(TrainStep, OverflowsMoveTheScaleAndNothingElse) {
  StepRig rig, calm;
  LossScalerOptions options;
  options.initial_scale = 2;
  rig.scale_loss(options);
  MicroBatch poisoned = long_sample();
  poisoned.pixels[0] = std::numeric_limits<float>::infinity();
  rig.source.steps = {{long_sample()}, {poisoned}};
  calm.source.steps = {{long_sample()}};
  struct Row {
    int64_t batch;
    double scale;
    bool exhausted;
  };
  int64_t good = 0;
  for (const Row& row : {Row{0, 2, false}, Row{1, 2, false}, Row{1, 2, false}, Row{0, 1, false},
                         Row{1, 1, true}, Row{0, 1, false}}) {
    const StepReport report = rig.step->run(0, row.batch);
    EXPECT_EQ(report.skipped, row.batch == 1);
    EXPECT_EQ(report.loss_scale, row.scale);
    EXPECT_EQ(report.scale_exhausted, row.exhausted);
    good += row.batch == 0;
    EXPECT_EQ(rig.engine->optimizer_steps(), good);
    if (row.batch == 0) calm.step->run(0, 0);
    EXPECT_EQ(rig.values(), calm.values());
  }
}

// A bad step is reported with the place of its first number that is not finite.
TEST(TrainStep, ABadStepIsLookedInto) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto reported = [](StepRig& rig) {
    EXPECT_TRUE(rig.step->run(0, 0).skipped);
    return rig.step->find_non_finite();
  };
  const auto expect_reported = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nnot in\n" << text;
  };
  StepRig pixels;
  pixels.source.steps = {{short_sample(), long_sample()}};
  pixels.source.steps[0][1].pixels[5] = nan;
  pixels.source.steps[0][1].sample_ids = {77};
  expect_reported(reported(pixels),
                  "rank 0, micro-batch 2 of 2, pixel value 5 of the images is nan; samples 77");

  StepRig weights;
  weights.source.steps = {{both_samples()}};
  Param* const norm = weights.table.find("lang_decoder.model.layers.1.input_layernorm.weight");
  norm->value.f32()[3] = -std::numeric_limits<float>::infinity();
  expect_reported(reported(weights),
                  "parameter lang_decoder.model.layers.1.input_layernorm.weight, element 3 of (");
  expect_reported(reported(weights), ", is -inf; samples");

  // All weights are finite, and the product of two of them is not.
  StepRig activations;
  activations.source.steps = {{both_samples()}};
  for (const char* part : {"gate", "up", "down"})
    std::fill_n(
        activations.table.find(fmt::format("lang_decoder.model.layers.0.mlp.{}_proj.weight", part))
            ->value.f32(),
        8, 1e30f);
  expect_reported(reported(activations), "layers.0: its output, element ");

  StepRig poisoned;
  poisoned.source.steps = {{short_sample()}, {short_sample()}};
  poisoned.inject("nan@grad:rank=0,step=7");
  note_step(7);
  expect_reported(reported(poisoned), ": gradient of lang_");
  note_step(8);
  EXPECT_FALSE(poisoned.step->run(0, 1).skipped);
  EXPECT_EQ(poisoned.step->find_non_finite().rfind("computed again, every number is finite", 0),
            0u);
}

// Two micro-batches of the same sample, each with half of a gradient that fp32 can't hold.
TEST(TrainStep, ASumOfFiniteMicroBatchesIsReportedAsSuch) {
  StepRig calm, rig;
  calm.source.steps = rig.source.steps = {{short_sample(), short_sample()}};
  calm.step->run(0, 0);
  float largest = 0;
  for (const ParamUnit& unit : calm.table.units())
    for (int64_t i = 0; i < unit.trained_grads.numel(); ++i)
      largest = std::max(largest, std::abs(unit.trained_grads.f32()[i]));
  ASSERT_GT(largest, 0);
  LossScalerOptions scale;
  scale.fixed_scale = 1.5 * std::numeric_limits<float>::max() / static_cast<double>(largest);
  rig.scale_loss(scale);
  EXPECT_TRUE(rig.step->run(0, 0).skipped);
  const std::string reported = rig.step->find_non_finite();
  EXPECT_NE(reported.find("is finite in each micro-batch alone; summed over them"),
            std::string::npos)
      << reported;
}

// The search changes nothing: the next step is what it would have been.
TEST(TrainStep, LookingIntoAStepLeavesEverythingAlone) {
  StepRig rig, calm;
  rig.source.steps = calm.source.steps = {{long_sample(), short_sample()}, {both_samples()}};
  for (StepRig* r : {&rig, &calm}) r->step->run(0, 0);
  const std::vector<float> before = rig.values();
  rig.step->find_non_finite();
  EXPECT_EQ(rig.values(), before);
  EXPECT_EQ(rig.engine->optimizer_steps(), 1);
  EXPECT_EQ(rig.step->run(0, 1).grad_norm, calm.step->run(0, 1).grad_norm);
  EXPECT_EQ(rig.values(), calm.values());
}

// Counts what it is told.
struct CountingSink : FeatureSink {
  void given(int64_t) override { ++calls; }
  void computed(const ImageKey&, std::span<const std::byte>) override { ++features; }
  int calls = 0, features = 0;
};

// What a rehearsal computes, between its two calls, remains nowhere.
TEST(TrainStep, ARehearsedStepIsTheSameStep) {
  StepRig rig, calm;
  MicroBatch with_key = long_sample();
  with_key.features.keys = {ImageKey{1, 2}};
  rig.source.steps = calm.source.steps = {{with_key, short_sample()}, {both_samples()}};
  CountingSink told, told_calm;
  const auto train = [&](StepRig& r, CountingSink& sink) {
    LossScalerOptions scale;
    scale.window = 1;
    r.scale_loss(scale);
    EXPECT_EQ(r.model.tell_features_to(&sink), nullptr);
  };
  train(rig, told);
  train(calm, told_calm);
  std::vector<int64_t> operators;  // at each of the two calls
  const auto note = [&] { operators.push_back(rig.ops.counts().calls); };
  rig.step->rehearse_next({.begin = note, .end = note});
  for (int64_t i = 0; i < 2; ++i) {
    const StepReport rehearsed = rig.step->run(0, i), expected = calm.step->run(0, i);
    EXPECT_EQ(rehearsed.loss, expected.loss);
    EXPECT_EQ(rehearsed.grad_norm, expected.grad_norm);
    EXPECT_EQ(rehearsed.loss_scale, expected.loss_scale);
    EXPECT_EQ(rehearsed.labelled_tokens, expected.labelled_tokens);
    EXPECT_EQ(rehearsed.model_flops, expected.model_flops);
    EXPECT_EQ(rehearsed.elements_sent, expected.elements_sent);
    EXPECT_EQ(rig.values(), calm.values());
  }
  ASSERT_EQ(operators.size(), 2u);
  EXPECT_LT(operators[0], operators[1]);
  EXPECT_EQ(rig.engine->optimizer_steps(), 2);
  EXPECT_EQ(told_calm.features, 1);
  EXPECT_EQ(told.features, told_calm.features);
  EXPECT_EQ(told.calls, told_calm.calls);
}

TEST(TrainStep, UnusableDataFailsBeforeAnythingChanges) {
  StepRig rig;
  rig.source.steps = {{long_sample()}};
  rig.source.failing = true;
  const std::vector<float> before = rig.values();
  EXPECT_THROW(rig.step->run(0, 0), CollectiveError);
  EXPECT_EQ(rig.values(), before);
  EXPECT_EQ(rig.engine->optimizer_steps(), 0);
}

TEST(TrainStep, LossFallsOnARepeatedBatch) {
  StepRig rig;
  rig.source.steps = {{both_samples()}};
  const double first = rig.step->run(0, 0).loss;
  double last = first;
  for (int i = 0; i < 20; ++i) last = rig.step->run(0, 0).loss;
  EXPECT_LT(last, 0.8 * first);
}

}  // namespace
}  // namespace facet
