// What the tests of ZeRO's stages share: a small composed model, other batches for each rank, and a
// rig that trains it at a stage.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "ops/half_storage.h"
#include "tests/model/language_rig.h"
#include "tests/zero/late_copies.h"
#include "zero/engine.h"

namespace facet::stage_rig {

using language_rig::add_sample;
using language_rig::kImage;

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline VlmConfig full_config() { return language_rig::small_config(); }
inline VlmConfig lora_config() {
  VlmConfig config = language_rig::small_config();
  config.lang_lora = language_rig::lora("model.layers.");
  config.vis_lora = language_rig::lora("encoder.layers.");
  return config;
}

// What each rank gets: other texts, other images, on the last rank no image in any micro-batch, and
// on rank 0 no label in the second one.
inline MicroBatch batch_of(const VlmConfig& config, int rank, int ranks, int64_t number) {
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

using Batches = MicroBatch (*)(const VlmConfig& config, int rank, int ranks, int64_t number);

struct Result {
  std::vector<double> losses, norms, clip_factors;
  // Of all parameters, concatenated; the frozen ones' moments are 0.
  std::vector<float> values, exp_avg, exp_avg_sq;
};

// Of the range's first element when all parameters are concatenated.
inline int64_t place_of(const ParamTable& table, const StateRange& range) {
  int64_t place = range.begin;
  for (const Param& param : table.params()) {
    if (&param == range.param) return place;
    place += param.numel();
  }
  return -1;
}

struct StageRig {
  StageRig(const VlmConfig& config, bool all_trained, const EngineOptions& options,
           MPI_Comm comm = MPI_COMM_WORLD, Batches batches_of_ranks = batch_of)
      : world(comm), model(config, table), batches(batches_of_ranks), dtype(options.compute_dtype) {
    if (all_trained) table.set_trained("", true);
    Engine::lay_out(table, world.size(), options);
    GroupOptions groups;
    groups.learning_rate = 1e-2;
    groups.lora_plus_ratio = 4;
    groups.weight_decay = 0.1;
    engine.emplace(table, make_param_groups(table, groups), world, ops, options,
                   HostSide{&ops, &copies});
    const OpenUnit open = engine->filler();
    for (Param& param : table.params()) {
      open(param.unit);
      const vision_rig::Mat drawn = vision_rig::random_param(param);
      vision_rig::set(param.value, drawn);
    }
    open(kNoUnit);
  }

  void train(int64_t steps, int64_t micro_batches, Result& result) {
    Context context{dtype == DType::kF32 ? static_cast<Backend&>(ops) : half, arena, *engine,
                    dtype};
    for (int64_t s = 0; s < steps; ++s) {
      engine->begin_step(micro_batches);
      double loss = 0;
      for (int64_t k = 0; k < micro_batches; ++k) {
        LossSums sums;
        const int64_t number = (s * micro_batches + k) % 4;
        model.forward_backward(context, batches(model.config(), world.rank(), world.size(), number),
                               0.05f, sums);
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
    for (std::vector<float>* moment : {&result.exp_avg, &result.exp_avg_sq}) {
      std::vector<double> sums(moment->begin(), moment->end());
      world.all_reduce_sum(sums);
      moment->assign(sums.begin(), sums.end());
    }
  }

  Communicator world;
  ParamTable table;
  VisionLanguageModel model;
  Batches batches;
  DType dtype;
  CpuBackend ops{1};
  LateCopies copies;
  HalfStorage half{ops, int64_t{64} << 20};
  Arena arena{"activations", int64_t{64} << 20};
  std::optional<Engine> engine;
};

inline Result run(const VlmConfig& config, bool all_trained, const EngineOptions& options,
                  int64_t micro_batches) {
  StageRig rig(config, all_trained, options);
  Result result;
  rig.train(3, micro_batches, result);
  rig.collect(result);
  return result;
}

inline void expect_same(const Result& a, const Result& b, const std::string& what) {
  EXPECT_EQ(a.losses, b.losses) << what;
  EXPECT_EQ(a.norms, b.norms) << what;
  EXPECT_TRUE(same_bits(a.values, b.values)) << what;
  EXPECT_TRUE(same_bits(a.exp_avg, b.exp_avg)) << what;
  EXPECT_TRUE(same_bits(a.exp_avg_sq, b.exp_avg_sq)) << what;
}

inline EngineOptions options_of(int64_t stage, bool every_micro_batch, int64_t threshold = 0) {
  EngineOptions options;
  options.gradient_clipping = 0.1;
  options.zero_stage = stage;
  options.reduce_every_micro_batch = every_micro_batch;
  options.stage3 = {threshold, {}};
  return options;
}

}  // namespace facet::stage_rig
