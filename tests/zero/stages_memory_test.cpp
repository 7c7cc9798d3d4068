// What ZeRO's stages send and keep. Run with 1, 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "tests/zero/mpi_counter.h"
#include "tests/zero/stage_rig.h"
#include "tests/zero/two_units.h"
#include "zero/engine.h"
#include "zero/zero_plan.h"

namespace facet {
namespace {

using stage_rig::options_of;
using two_units::declare_two_units;
using two_units::pass;
using two_units::TwoUnits;

TEST(StagesTraffic, ElementsSentAreTheFormulas) {
  // docs/computes.md, "ZeRO", with k = 3, Psi and Phi padded for N ranks of 16 elements:
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
    rig.engine->begin_step(3);
    for (int k = 0; k < 3; ++k) pass(*rig.engine);
    rig.engine->step(rig.engine->reduce_gradients(), 1);
    EXPECT_EQ(rig.world.elements_sent() - counted, mpi_floats_sent() - before);
    MeasuringHooks planned(rig.table, ranks, options);
    pass(planned);
    const int64_t most = rig.world.max(mpi_floats_sent() - before);
    EXPECT_EQ(planned_elements(rig.table, ranks, options, 3, planned.gathers_per_micro_batch()),
              most);
    return most;
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

// With a threshold of 10, of the two units' parameters a.bias (7) and b.frozen.weight (9) stay on
// every rank; a.weight (35) and b.weight (41 and its unit's padding) are gathered, k = 3 times
// forward and 3 times backward. Every unit's slices have 32 elements on 2 ranks, 16 on 3 and on 4.
// Rank 0's are in a.weight and b.weight only; it sends most, to each of the others k 2 slices of
// gradients and 2 k 2 slices of values: 18 slices. a.bias and its unit's padding are made known
// after the step by those who own them.
TEST(StagesTraffic, SmallParametersAreNotGathered) {
  const std::array<int64_t, 4> expected = {0, 18 * 32, 2 * 18 * 16, 3 * 18 * 16};
  const EngineOptions options = options_of(3, false, 10);
  TwoUnits rig(options);
  const int ranks = rig.world.size();
  ASSERT_LE(ranks, 4);
  const int64_t before = mpi_floats_sent();
  rig.engine->begin_step(3);
  for (int k = 0; k < 3; ++k) pass(*rig.engine);
  rig.engine->step(rig.engine->reduce_gradients(), 1);
  const int64_t sent = mpi_floats_sent() - before;
  MeasuringHooks planned(rig.table, ranks, options);
  pass(planned);
  EXPECT_EQ(rig.world.max(sent), expected[static_cast<size_t>(ranks - 1)]);
  EXPECT_EQ(planned_elements(rig.table, ranks, options, 3, planned.gathers_per_micro_batch()),
            rig.world.max(sent));
  // On 2 ranks the other one's slice of a has the last 3 elements of a.weight.
  if (ranks == 2 && rig.world.rank() == 1) {
    EXPECT_EQ(sent, 3 * 64 + 6 * (3 + 32) + 29);
  }
}

TEST(StagesMemory, PlannedBytesAreTheFormulas) {
  struct Expected {
    int64_t values, gradients, optimizer, live;
  };
  // On 2 ranks: Psi = 64 + 64, Phi = 9 (padded to 32 where it is cut up); 4 bytes each, pieces
  // rounded up to 64 bytes. Live: at stage 2 the gradients of a unit, at stage 3 the values of one
  // as well: 64 + 32 elements; and a bucket, which is no larger than all there is to reduce: 128
  // elements to send and 128 that come.
  const Expected expected[] = {{576, 512, 1024, 1024},
                               {576, 512, 512, 1024},
                               {576, 256, 512, 256 + 1024},
                               {320, 256, 512, 640 + 1024}};
  for (int64_t stage = 0; stage < 4; ++stage) {
    ParamTable table;
    declare_two_units(table);
    EngineOptions options = options_of(stage, false);
    Engine::lay_out(table, 2, options, ParamTable::Memory::kMeasureOnly);
    const ZeroBytes bytes = planned_bytes(table, 2, options);
    MeasuringHooks hooks(table, 2, options);
    pass(hooks);
    const Expected& e = expected[stage];
    EXPECT_EQ(bytes.values, e.values) << stage;
    EXPECT_EQ(bytes.gradients, e.gradients) << stage;
    EXPECT_EQ(bytes.optimizer, e.optimizer) << stage;
    EXPECT_EQ(hooks.gathered_bytes() + hooks.bucket_bytes(), e.live) << stage;
    // Smaller buckets; a second one for overlap; communication in 16 bits.
    const int64_t more = hooks.bucket_bytes() - 1024;
    options.reduction.bucket_elements = 50;  // 16 of each rank's slices, whole cache lines
    EXPECT_EQ(hooks.bucket_bytes(), more + 2 * 32 * 4) << stage;
    options.reduction.overlap = Overlap::kYes;
    EXPECT_EQ(hooks.bucket_bytes(), more + 2 * 2 * 32 * 4) << stage;
    options.reduction.dtype = DType::kBF16;
    EXPECT_EQ(hooks.bucket_bytes(), more + 2 * 2 * 32 * 2) << stage;
  }
}

// What is planned is what is taken, by the engine that then steps.
TEST(StagesMemory, TheArenasHoldWhatIsPlanned) {
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (int64_t stage = 0; stage < 4; ++stage)
      for (const bool other : {false, true}) {
        EngineOptions options = options_of(stage, other);
        options.compute_dtype = dtype;
        options.offload = {.optimizer = other, .params = other && stage == 3, .chunk_elements = 20};
        const int64_t before = Arena::held();
        TwoUnits rig(options);
        for (int step = 0; step < 2; ++step) {
          rig.engine->begin_step(3);
          for (int k = 0; k < 3; ++k) pass(*rig.engine);
          rig.engine->step(rig.engine->reduce_gradients(), 1);
        }
        const int64_t held = Arena::held() - before;
        MeasuringHooks hooks(rig.table, rig.world.size(), options);
        pass(hooks);
        const ZeroBytes kept = planned_bytes(rig.table, rig.world.size(), options);
        EXPECT_EQ(held, kept.values + kept.gradients + kept.optimizer + kept.staging +
                            kept.uploads + hooks.gathered_bytes() + hooks.bucket_bytes())
            << fmt::format("stage {}, {} bytes an element", stage, size_of(dtype));
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
  rig.engine->begin_step(1);
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

TEST(StagesMemory, AUnitOfSmallParametersIsPersistent) {
  TwoUnits rig(options_of(3, false, 36));  // a has 35 and 7 elements, b 41 and 9
  EXPECT_TRUE(readable(rig.table.find("a.weight")->value));
  EXPECT_FALSE(readable(rig.table.find("b.weight")->value));
  const int64_t sent = rig.world.elements_sent();
  rig.engine->before(0, Phase::kForward);
  rig.engine->after(0, Phase::kForward);
  EXPECT_EQ(rig.world.elements_sent(), sent);
  EXPECT_TRUE(readable(rig.table.find("a.weight")->value));
}

// They are copied to their places in the gathered unit, frozen ones too.
TEST(StagesMemory, SmallParametersOfAGatheredUnitAreThere) {
  TwoUnits rig(options_of(3, false, 10));
  for (const int unit : {0, 1}) {
    rig.engine->before(unit, Phase::kForward);
    for (const Param* param : rig.table.units()[static_cast<size_t>(unit)].params)
      EXPECT_EQ(vision_rig::floats_of(param->value),
                std::vector<float>(static_cast<size_t>(param->numel()),
                                   static_cast<float>(param->numel())))
          << param->name;
    rig.engine->after(unit, Phase::kForward);
  }
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
