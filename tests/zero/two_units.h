// A table of two units and an engine around it, for tests that count what is moved and kept.
#pragma once

#include <algorithm>
#include <optional>

#include "kernels/cpu/backend.h"
#include "tests/zero/late_copies.h"
#include "zero/engine.h"

namespace facet::two_units {

// Two units: 42 and 41 trained elements, the second with 9 frozen ones.
inline void declare_two_units(ParamTable& table) {
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
inline void pass(UnitHooks& hooks) {
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
    engine.emplace(table, make_param_groups(table, GroupOptions{}), world, ops, options,
                   HostSide{&ops, &copies});
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
  LateCopies copies;
  std::optional<Engine> engine;
};

}  // namespace facet::two_units
