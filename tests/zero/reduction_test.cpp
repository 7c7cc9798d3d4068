// The reduction of gradients: the same sums however they are bucketed, and a bucket that is
// exchanged while backward continues. Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "tests/zero/mpi_counter.h"
#include "tests/zero/stage_rig.h"
#include "tests/zero/two_units.h"
#include "zero/engine.h"
#include "zero/reduction_buckets.h"

namespace facet {
namespace {

using stage_rig::expect_same;
using stage_rig::full_config;
using stage_rig::options_of;
using stage_rig::Result;
using stage_rig::run;
using two_units::TwoUnits;

// Element i of rank r's contributions.
float contribution(int rank, int64_t i) {
  RandomStream stream(1, "contribution", static_cast<uint64_t>(rank), static_cast<uint64_t>(i));
  return (stream.uniform() - 0.5f) * 1000;
}

// Slices of these lengths, reduced one after the other; longer than a bucket, shorter, a last one
// that leaves it partly empty.
const std::vector<int64_t> kSlices = {16, 4096, 48, 16, 80, 32};

std::vector<float> reduce_all(Communicator& world, const ReductionOptions& options, SumInto into) {
  CpuBackend ops(1);
  int64_t elements = 0;
  for (const int64_t slice : kSlices) elements += slice;
  ReductionBuckets buckets(world, ops, options, into, elements);
  std::vector<float> sums(static_cast<size_t>(elements), into == SumInto::kAdd ? 0.75f : NAN);
  std::vector<float> whole;
  int64_t begin = 0;  // of the slice among all
  for (const int64_t length : kSlices) {
    whole.clear();
    for (int64_t i = 0; i < world.size() * length; ++i)
      whole.push_back(contribution(world.rank(), begin * world.size() + i));
    buckets.reduce(Tensor(sums.data() + begin, {length}, DType::kF32),
                   Tensor(whole.data(), {world.size() * length}, DType::kF32));
    std::fill(whole.begin(), whole.end(), NAN);  // the caller may reuse it
    world.progress();
    begin += length;
  }
  buckets.wait();
  return sums;
}

std::vector<float> expected_sums(const Communicator& world, SumInto into, DType dtype) {
  std::vector<float> sums;
  int64_t begin = 0;
  for (const int64_t length : kSlices) {
    for (int64_t i = 0; i < length; ++i) {
      float sum = 0;
      for (int rank = 0; rank < world.size(); ++rank) {
        float part = contribution(rank, (begin * world.size()) + world.rank() * length + i);
        if (dtype != DType::kF32) {
          uint16_t bits = 0;
          round_to_16_bits(&bits, &part, 1, dtype);
          widen(&part, &bits, 1, dtype);
        }
        sum = rank == 0 ? part : sum + part;
      }
      sums.push_back(into == SumInto::kAdd ? 0.75f + sum : sum);
    }
    begin += length;
  }
  return sums;
}

TEST(Reduction, SumsAreInRankOrderForAnyBucket) {
  Communicator world(MPI_COMM_WORLD);
  for (const SumInto into : {SumInto::kReplace, SumInto::kAdd}) {
    const std::vector<float> expected = expected_sums(world, into, DType::kF32);
    for (const Overlap overlap : {Overlap::kNo, Overlap::kYes})
      for (const int64_t bucket : {1, 100, 1000, 1 << 20})
        EXPECT_EQ(reduce_all(world, {bucket, overlap, DType::kF32}, into), expected)
            << bucket << (overlap == Overlap::kYes ? " overlapping" : "");
  }
}

TEST(Reduction, SixteenBitsAreRoundedOnceAndSummedInFp32) {
  Communicator world(MPI_COMM_WORLD);
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const int64_t bucket : {100, 1 << 20}) {
      const int64_t floats = mpi_floats_sent(), halves = mpi_halves_sent();
      const std::vector<float> sums =
          reduce_all(world, {bucket, Overlap::kYes, dtype}, SumInto::kReplace);
      // Nothing travels on one rank.
      EXPECT_EQ(sums,
                expected_sums(world, SumInto::kReplace, world.size() == 1 ? DType::kF32 : dtype));
      EXPECT_EQ(mpi_floats_sent() - floats, mpi_halves_sent() - halves);  // nothing else is
      EXPECT_EQ(mpi_halves_sent() - halves, static_cast<int64_t>(sums.size()) * (world.size() - 1));
    }
}

EngineOptions with_reduction(EngineOptions options, const ReductionOptions& reduction) {
  options.reduction = reduction;
  return options;
}

// Of a whole model, over three steps of three micro-batches.
TEST(Reduction, BucketsAndOverlapChangeNoBit) {
  for (const int64_t stage : {0, 1, 2, 3})
    for (const bool every_micro_batch : {false, true}) {
      const EngineOptions options = options_of(stage, every_micro_batch);
      const Result expected = run(full_config(), true, options, 3);
      for (const ReductionOptions& reduction :
           {ReductionOptions{1000, Overlap::kNo, DType::kF32},
            ReductionOptions{1000, Overlap::kYes, DType::kF32},
            ReductionOptions{20000, Overlap::kYes, DType::kF32}})
        expect_same(run(full_config(), true, with_reduction(options, reduction), 3), expected,
                    fmt::format("stage {}, buckets of {}", stage, reduction.bucket_elements));
    }
}

// Communication in 16 bits: the stages still agree, and a step's gradient norm is off by the
// rounding of the contributions, at most half a unit of the last place each: 2^-9 for bf16, 2^-12
// for fp16.
TEST(Reduction, StagesAgreeWithSixteenBitsOnTheWire) {
  const int ranks = Communicator(MPI_COMM_WORLD).size();
  const Result exact = run(full_config(), true, options_of(0, true), 2);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const ReductionOptions reduction{5000, Overlap::kYes, dtype};
    const Result expected =
        run(full_config(), true, with_reduction(options_of(0, true), reduction), 2);
    for (const int64_t stage : {1, 2, 3})
      expect_same(run(full_config(), true, with_reduction(options_of(stage, true), reduction), 2),
                  expected, fmt::format("stage {} {}", stage, name_of(dtype)));
    const double unit = dtype == DType::kBF16 ? std::ldexp(1, -9) : std::ldexp(1, -12);
    const double off = std::abs(expected.norms[0] / exact.norms[0] - 1);
    EXPECT_LE(off, unit) << name_of(dtype);
    EXPECT_EQ(off == 0, ranks == 1) << name_of(dtype);
  }
}

// ---- in time

// What happens, in order: "begin 1" backward of unit 1, "ready 1", "start 0" of an exchange, "wait
// 0" for it.
class Timeline : public UnitHooks, public ExchangeWatcher {
 public:
  explicit Timeline(UnitHooks& engine) : engine_(engine) { watch_exchanges(this); }
  ~Timeline() override { watch_exchanges(nullptr); }

  void before(int unit, Phase phase) override {
    if (phase == Phase::kBackward) note("begin", unit);
    engine_.before(unit, phase);
  }
  void after(int unit, Phase phase) override { engine_.after(unit, phase); }
  void gradients_ready(int unit) override {
    note("ready", unit);
    engine_.gradients_ready(unit);
  }
  void started(int64_t number) override { note("start", number); }
  void waited_for(int64_t number) override { note("wait", number); }

  const std::vector<std::string>& events() const { return events_; }

 private:
  void note(const char* what, int64_t number) {
    events_.push_back(fmt::format("{} {}", what, number));
  }
  UnitHooks& engine_;
  std::vector<std::string> events_;
};

using Events = std::vector<std::string>;

// On one rank nothing travels.
Events on_these_ranks(Events events) {
  if (Communicator(MPI_COMM_WORLD).size() > 1) return events;
  std::erase_if(events, [](const std::string& event) {
    return event.starts_with("start") || event.starts_with("wait");
  });
  return events;
}

Events timeline(const EngineOptions& options, int micro_batches) {
  TwoUnits rig(options);
  Timeline hooks(*rig.engine);
  rig.engine->begin_step(micro_batches);
  for (int k = 0; k < micro_batches; ++k) two_units::pass(hooks);
  rig.engine->reduce_gradients();
  return hooks.events();
}

// A bucket holds a unit: 48 or 64 elements, whatever the number of ranks up to 4.
TEST(ReductionOrder, ABucketIsExchangedWhileBackwardContinues) {
  for (const int64_t stage : {0, 1, 2}) {
    EngineOptions options = options_of(stage, false);
    options.reduction = {64, Overlap::kYes, DType::kF32};
    // Bucket 0, unit 1's, is in flight before the backward of unit 0 begins and is waited for when
    // all are.
    EXPECT_EQ(timeline(options, 1), on_these_ranks({"begin 1", "ready 1", "start 0", "begin 0",
                                                    "ready 0", "start 1", "wait 0", "wait 1"}))
        << stage;
    options.reduction.overlap = Overlap::kNo;
    EXPECT_EQ(timeline(options, 1), on_these_ranks({"begin 1", "ready 1", "start 0", "wait 0",
                                                    "begin 0", "ready 0", "start 1", "wait 1"}))
        << stage;
  }
}

// With one reduction a step the last micro-batch's backward starts it. Otherwise a bucket is waited
// for when its memory is needed again, in the next micro-batch.
TEST(ReductionOrder, OverSeveralMicroBatches) {
  EngineOptions options = options_of(1, false);
  options.reduction = {64, Overlap::kYes, DType::kF32};
  EXPECT_EQ(timeline(options, 2),
            on_these_ranks({"begin 1", "ready 1", "begin 0", "ready 0",                        //
                            "begin 1", "ready 1", "start 0", "begin 0", "ready 0", "start 1",  //
                            "wait 0", "wait 1"}));
  options.reduce_every_micro_batch = true;
  EXPECT_EQ(
      timeline(options, 2),
      on_these_ranks({"begin 1", "ready 1", "start 0", "begin 0", "ready 0", "start 1",  //
                      "begin 1", "ready 1", "wait 0", "start 2", "begin 0", "ready 0", "wait 1",
                      "start 3",  //
                      "wait 2", "wait 3"}));
}

// A partial bucket is sent when the micro-batch ends, not when its sums are needed.
TEST(ReductionOrder, SmallUnitsShareABucket) {
  EngineOptions options = options_of(2, false);
  options.reduction = {1000, Overlap::kYes, DType::kF32};
  EXPECT_EQ(timeline(options, 2),
            on_these_ranks({"begin 1", "ready 1", "begin 0", "ready 0", "start 0", "begin 1",
                            "ready 1", "begin 0", "ready 0", "start 1", "wait 0", "wait 1"}));
}

}  // namespace
}  // namespace facet
