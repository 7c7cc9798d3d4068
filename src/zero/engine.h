// The ZeRO engine around the model: owns the optimizer state, reduces the gradients over the ranks,
// clips them and takes the AdamW step (the arithmetic is ops/ops.h, adamw_step). The model knows it
// only as UnitHooks.
//
// The stage says what is partitioned among the ranks: 0 nothing, 1 the optimizer state, 2 also the
// gradients, 3 also the parameters, frozen ones included. Rank r owns slice r of each unit's flat
// buffers at every stage. Gradients are reduce-scattered into the slices, and the norm is summed
// over the slices in rank order: stages that reduce at the same points of a step give identical
// bits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "device/arena.h"
#include "nn/context.h"
#include "nn/param_table.h"
#include "optim/param_groups.h"
#include "optim/partition.h"
#include "zero/gradients.h"
#include "zero/host_mirror.h"
#include "zero/offload.h"
#include "zero/offloaded_step.h"
#include "zero/values.h"

namespace facet {

struct EngineOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-6;
  double gradient_clipping = 1.0;  // maximum global L2 norm; 0: no clipping
  int64_t zero_stage = 0;
  bool reduce_every_micro_batch = false;  // even at stages 0 and 1
  ValueLimits stage3 = {10000, {}};
  DType compute_dtype = DType::kF32;  // of the layers
  ReductionOptions reduction;
  OffloadChoices offload;

  ValueChoices values() const { return {zero_stage, stage3, offload}; }
};

// What every rank knows once the gradients are reduced, the same on all.
struct GradientVerdict {
  double norm = 0;         // global L2 norm of the reduced gradient, unscaled
  double clip_factor = 1;  // 1 / max(1, (norm + 1e-6) / gradient_clipping)
  double loss_scale = 1;   // by which the gradient is still multiplied
  bool finite = true;
  std::string first_bad_parameter;  // that holds the first non-finite element, "" if finite
};

// The range of one trained parameter's elements that this rank owns, saves and restores. In host
// memory.
struct StateRange {
  const Param* param = nullptr;
  int64_t begin = 0;  // first element, relative to the parameter
  int64_t count = 0;
  float* value = nullptr;  // fp32 master, (count)
  float* exp_avg = nullptr;
  float* exp_avg_sq = nullptr;
};

class Engine : public UnitHooks {
 public:
  // Lays out the declared table and allocates the memory that the stage keeps in the table.
  static void lay_out(ParamTable& table, int ranks, const EngineOptions& options,
                      ParamTable::Memory memory = ParamTable::Memory::kReal);

  // The table must come from lay_out with the same options. At stage 3, and with 16 bits, its
  // values are undefined until they are filled through filler(). `host` where the options offload.
  Engine(ParamTable& table, std::vector<ParamGroup> groups, Communicator& world, Backend& ops,
         const EngineOptions& options, const HostSide& host = {});

  const ParamTable& table() const { return table_; }
  const std::vector<ParamGroup>& groups() const { return groups_; }
  int64_t optimizer_steps() const { return steps_; }  // AdamW steps taken: skipped ones don't count
  void set_optimizer_steps(int64_t steps) { steps_ = steps; }

  // To fill the values of all units, with the same values on every rank: each unit is opened
  // through this and seen in fp32.
  OpenUnit filler() { return values_.filler(); }
  // Collective: rank 0 runs `work`, which may open any unit and read its full values in fp32, for
  // trained parameters the masters.
  void read_on_rank_0(const std::function<void(const OpenUnit&)>& work) {
    read_on_rank_0([&](const OpenUnit& open, const Values::Meet&) { work(open); }, [] {});
  }
  // The same; whenever `work` calls what it is given second, all ranks run `together`. An error of
  // that must be one that all of them throw.
  void read_on_rank_0(const Values::Work& work, const Values::Meet& together) {
    values_.read_on_rank_0(work, together);
  }
  // Collective: hash of the frozen parameters' names, shapes and values as they were filled; the
  // same at any stage and in any precision. Of the units whose names begin so.
  uint64_t frozen_hash(std::string_view unit_prefix = "") {
    return values_.frozen_hash(unit_prefix);
  }

  // This rank's part of every trained parameter, in the table's order. Together the ranks own each
  // element exactly once, in the same slices at every stage. The pointers are valid as long as the
  // engine. A parameter that lies only in other ranks' slices has no range. If the state is on a
  // device, this is a copy made by the call.
  std::vector<StateRange> owned_state();
  // Collective: after the owned state was changed from outside, as by loading a checkpoint, sends
  // the owners' values and moments to all ranks that keep them at this stage.
  void publish_state();
  // If so, later steps do not change the ranges.
  bool owned_state_is_copied() const { return mirror_.copies(); }

  // For passes outside training: where the values are, partitioned or not.
  Values& values() { return values_; }

  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override;
  void gradients_ready(int unit) override;

  // Zeroes the gradients for a step of that many micro-batches. If gradients are reduced once per
  // step, the reduction starts in the backward of the last one.
  void begin_step(int64_t micro_batches);
  // Waits for the reduced gradients and computes the verdict. loss_scale: by which the loss was
  // multiplied before backward.
  GradientVerdict reduce_gradients(double loss_scale = 1);
  // Unscales, clips and takes one AdamW step, each group's learning rate multiplied by lr_factor.
  void step(const GradientVerdict& verdict, double lr_factor);

 private:
  // `part` is a range of the unit's trained buffer; gradients are valid after the reduction.
  Tensor gradient_at(int unit, const Slice& part) const;
  Tensor moment_at(const std::vector<Tensor>& moment, int unit, const Slice& part) const;
  int64_t parameter_at(int unit, int64_t place) const;
  void step_group(const ParamGroup& group, const AdamWStep& step);
  void step_run(int unit, const Slice& part, const AdamWStep& step);

  ParamTable& table_;
  std::vector<ParamGroup> groups_;
  Communicator& world_;
  Backend& ops_;
  EngineOptions options_;
  int64_t steps_ = 0;
  Values values_;
  Gradients gradients_;
  std::optional<OffloadedStep> offloaded_;  // takes the steps, with the optimizer offloaded
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> exp_avg_;  // per unit: of the elements this rank updates
  std::vector<Tensor> exp_avg_sq_;
  HostMirror mirror_;  // of the owned state
  std::vector<int> trained_units_;
  std::vector<Tensor> slices_;  // this rank's gradients of them
  std::vector<GradientStatistics> statistics_;
};

}  // namespace facet
