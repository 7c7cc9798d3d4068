// What the tests of checkpoints share: a directory for all ranks and a small run that saves and
// loads, on any ranks and at any stage.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "kernels/cpu/backend.h"
#include "tests/io/temporary_directory.h"
#include "tests/zero/small_table.h"

namespace facet {

// One directory for all ranks, removed at its end.
class SharedDirectory {
 public:
  explicit SharedDirectory(Communicator& world) : world_(world) {
    if (world.rank() == 0) path_ = mine_->path();
    world.broadcast(path_, 0);
  }
  ~SharedDirectory() { world_.sum(int64_t{0}); }  // no rank uses it any more
  const std::string& path() const { return path_; }

 private:
  Communicator& world_;
  std::optional<TemporaryDirectory> mine_{std::in_place};
  std::string path_;
};

// A small model's parameters and their optimizer. Equal steps give equal bits on any number of
// ranks: one rank contributes the whole gradient, and nothing is clipped, because the norm is added
// up slice by slice.
struct SmallRun {
  explicit SmallRun(MPI_Comm comm = MPI_COMM_WORLD, int64_t stage = 0, DType dtype = DType::kF32)
      : world(comm), ops(1) {
    declare_small_table(table);
    EngineOptions options;
    options.gradient_clipping = 0;
    options.zero_stage = stage;
    options.compute_dtype = dtype;
    options.stage3 = {};
    Engine::lay_out(table, world.size(), options);
    GroupOptions rates;
    rates.learning_rate = 1e-2;
    engine.emplace(table, make_param_groups(table, rates), world, ops, options);
    const OpenUnit open = engine->filler();
    for (Param& param : table.params()) {
      open(param.unit);
      ParamTable::draw(param, 1);
    }
    open(kNoUnit);
    for (const ParamGroup& group : engine->groups())
      for (const Param* param : group.params) stored.push_back({param, group.name});
  }

  void take_steps(int count) {
    for (int i = 0; i < count; ++i) {
      engine->begin_step(1);
      for (int unit = static_cast<int>(table.units().size()) - 1; unit >= 0; --unit) {
        engine->before(unit, Phase::kBackward);
        if (world.rank() == 0) add_gradients(unit);
        engine->after(unit, Phase::kBackward);
        engine->gradients_ready(unit);
      }
      engine->step(engine->reduce_gradients(), 1);
      ++state.step;
    }
    state.optimizer_steps = engine->optimizer_steps();
    state.best_loss = 1.0 / 3;
    state.bad_samples_total = {3, 0, 5};
    state.options = "seed = 7\nname = \"a\\b\"\n";
  }

  void add_gradients(int unit) {
    for (const Param* param : table.units()[static_cast<size_t>(unit)].params) {
      RandomStream stream(static_cast<uint64_t>(engine->optimizer_steps()), param->name);
      for (int64_t e = 0; param->trained && e < param->numel(); ++e)
        param->grad.f32()[e] += static_cast<float>(stream.normal());
    }
  }

  // All that a checkpoint holds of this rank, as bytes.
  std::string bits() {
    std::string bits;
    for (const StateRange& range : engine->owned_state())
      for (const float* part : {range.value, range.exp_avg, range.exp_avg_sq})
        bits.append(reinterpret_cast<const char*>(part),
                    static_cast<size_t>(range.count) * sizeof(float));
    return bits;
  }

  // The same of all ranks, parameter by parameter: logical whole arrays, the same bytes whatever
  // the ranks and the stage. Collective.
  std::string whole_state() {
    std::vector<std::string> arrays;  // three of each parameter
    for (const Param& param : table.params())
      for (int part = 0; part < 3; ++part)
        arrays.emplace_back(param.trained ? static_cast<size_t>(param.numel()) * sizeof(float) : 0,
                            '?');
    for (const std::string& of_rank : world.all_gather(owned_pieces()))
      for (size_t at = 0; at < of_rank.size();) {
        Piece piece;
        std::memcpy(&piece, of_rank.data() + at, sizeof piece);
        at += sizeof piece;
        std::memcpy(arrays[piece.array].data() + piece.begin, of_rank.data() + at, piece.bytes);
        at += piece.bytes;
      }
    std::string whole;
    for (const std::string& array : arrays) whole += array;
    return whole;
  }

  // The trained parameters as this rank sees them when it uses the units, widened.
  std::vector<float> values_in_use() {
    std::vector<float> values;
    for (size_t u = 0; u < table.units().size(); ++u) {
      engine->before(static_cast<int>(u), Phase::kForward);
      for (const Param* param : table.units()[u].params) {
        if (!param->trained) continue;
        values.resize(values.size() + static_cast<size_t>(param->numel()));
        float* const end = values.data() + values.size();
        ops.copy(Tensor(end - param->numel(), {param->numel()}, DType::kF32),
                 param->value.view({param->numel()}));
      }
      engine->after(static_cast<int>(u), Phase::kForward);
    }
    return values;
  }

  std::string save(const std::string& directory, int64_t keep_last = 2) {
    return CheckpointStore(directory, keep_last, world).save(state, stored, engine->owned_state());
  }
  std::optional<FoundCheckpoint> find(const std::string& directory) {
    return CheckpointStore(directory, 2, world).find_newest();
  }
  void load(const FoundCheckpoint& found) {
    CheckpointStore("", 2, world).load(found, stored, engine->owned_state());
    engine->publish_state();
    engine->set_optimizer_steps(found.manifest.state.optimizer_steps);
  }

  // Bytes of an array that one rank owns; they follow.
  struct Piece {
    size_t array = 0, begin = 0, bytes = 0;
  };
  std::string owned_pieces() {
    std::string pieces;
    for (const StateRange& range : engine->owned_state()) {
      size_t array = 0;
      while (&table.params()[array] != range.param) ++array;
      array *= 3;
      for (const float* part : {range.value, range.exp_avg, range.exp_avg_sq}) {
        const Piece piece{array++, static_cast<size_t>(range.begin) * sizeof(float),
                          static_cast<size_t>(range.count) * sizeof(float)};
        pieces.append(reinterpret_cast<const char*>(&piece), sizeof piece);
        pieces.append(reinterpret_cast<const char*>(part), piece.bytes);
      }
    }
    return pieces;
  }

  Communicator world;
  CpuBackend ops;
  ParamTable table;
  std::optional<Engine> engine;
  std::vector<StoredParam> stored;
  RunState state;
};

inline std::string manifest_state_text(RunState state) {
  Manifest manifest;
  manifest.state = std::move(state);
  return manifest.text();
}

}  // namespace facet
