// The memory that a rank's process really takes at each stage, as the system counts it. Run with 1,
// 2, 3 and 4 ranks (scripts/run_tests.sh).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/cpu/backend.h"
#include "tests/zero/resident.h"
#include "zero/engine.h"

#ifndef FACET_CHECKED  // the sanitizer's own memory would be counted
namespace facet {
namespace {

constexpr int kUnits = 16;
// Trained elements of a unit, and frozen ones: so many that a MiB of others' does not count.
int64_t elements_at(int64_t stage) { return int64_t{1} << (stage == 3 ? 18 : 17); }

void use(Engine& engine, Backend& ops, ParamTable& table) {
  engine.begin_step(1);
  for (int unit = 0; unit < kUnits; ++unit) {
    engine.before(unit, Phase::kForward);
    engine.after(unit, Phase::kForward);
  }
  for (int unit = kUnits - 1; unit >= 0; --unit) {
    engine.before(unit, Phase::kBackward);
    ops.fill(table.units()[static_cast<size_t>(unit)].trained_grads, 1);
    engine.after(unit, Phase::kBackward);
    engine.gradients_ready(unit);
  }
  engine.step(engine.reduce_gradients(), 1);
}

// MiB that a run of one step takes on top of what was there.
double taken(Communicator& world, int64_t stage, DType dtype) {
  resident::forget_peak();
  const double before = resident::mib("VmRSS");
  ParamTable table;
  for (int unit = 0; unit < kUnits; ++unit) {
    table.begin_unit(fmt::format("u{}", unit));
    table.add(fmt::format("u{}.weight", unit), {elements_at(stage)}, ParamRole::kWeight,
              Init::kOne);
    table.add(fmt::format("u{}.frozen", unit), {elements_at(stage)}, ParamRole::kWeight,
              Init::kOne);
  }
  table.set_trained("", true);
  for (int unit = 0; unit < kUnits; ++unit)
    table.set_trained(fmt::format("u{}.frozen", unit), false);
  EngineOptions options;
  options.zero_stage = stage;
  options.compute_dtype = dtype;
  options.stage3.persistence_threshold = 0;
  options.reduction.bucket_elements = elements_at(stage);
  Engine::lay_out(table, world.size(), options);
  CpuBackend ops(1);
  Engine engine(table, make_param_groups(table, GroupOptions{}), world, ops, options);
  const OpenUnit open = engine.filler();
  for (Param& param : table.params()) {
    open(param.unit);
    ParamTable::draw(param, 1);
  }
  open(kNoUnit);
  use(engine, ops, table);
  return resident::mib("VmHWM") - before;
}

// docs/computes.md, "ZeRO", in MiB of a rank for Psi = Phi. On
// their way a unit's gradients are whole at stage 2, at stage 3 so are its values; between ranks
// there is a bucket of a unit's length to send and one to receive.
double formula(int64_t stage, DType dtype, double ranks) {
  const double unit = static_cast<double>(elements_at(stage)) / (1 << 20), psi = kUnits * unit;
  const double live[] = {0, 0, 4 * unit, 4 * unit + (dtype == DType::kF32 ? 8 : 4) * unit};
  const double fp32[] = {20, 12 + 8 / ranks, 8 + 12 / ranks, 20 / ranks};
  const double half[] = {20, 8 + 12 / ranks, 4 + 16 / ranks, 20 / ranks};
  const double buckets = ranks > 1 ? 8 * unit : 0;
  return (dtype == DType::kF32 ? fp32 : half)[stage] * psi + live[stage] + buckets;
}

TEST(StagesMemory, TheProcessTakesWhatTheFormulasSay) {
  Communicator world(MPI_COMM_WORLD);
  for (const int64_t stage : {0, 3}) taken(world, stage, DType::kBF16);  // what MPI takes once
  for (const DType dtype : {DType::kF32, DType::kBF16})
    for (int64_t stage = 0; stage < 4; ++stage) {
      const double expected = formula(stage, dtype, world.size());
      const double peak = taken(world, stage, dtype);
      EXPECT_NEAR(peak, expected, 0.1 * expected)
          << fmt::format("stage {}, {} bytes an element", stage, size_of(dtype));
    }
}

}  // namespace
}  // namespace facet
#endif
