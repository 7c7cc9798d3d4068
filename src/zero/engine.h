// The engine around the model: owns the optimizer state, reduces gradients over the ranks, clips,
// and steps. The model meets it only as UnitHooks.
//
// What is cut up between the ranks grows with the stage: 0 nothing, 1 the optimizer state, 2 the
// gradients too, 3 the parameters too, frozen ones as well. Rank r owns slice r of each unit's flat
// buffers at every stage, and the norm is added up over these slices in rank order: stages that
// reduce at the same moments see the same bits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
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
#include "zero/values.h"

namespace facet {

struct EngineOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-6;
  double gradient_clipping = 1.0;  // the largest global L2 norm; 0: no clipping
  int64_t zero_stage = 0;
  bool reduce_every_micro_batch = false;  // at stages 0 and 1 too
  ValueLimits stage3 = {10000, {}};
  DType compute_dtype = DType::kF32;  // what the layers compute in
  ReductionOptions reduction;
};

// What all ranks know alike after the gradients were reduced.
struct GradientVerdict {
  double norm = 0;         // global L2 norm of the reduced gradient, unscaled
  double clip_factor = 1;  // 1 / max(1, (norm + 1e-6) / gradient_clipping)
  double loss_scale = 1;   // what the gradient still has to be divided by
  bool finite = true;
  std::string first_bad_parameter;  // where the first non-finite element stands, "" when finite
};

// A run of one trained parameter's elements that this rank owns: what it saves and restores. In
// host memory.
struct StateRange {
  const Param* param = nullptr;
  int64_t begin = 0;  // the first element, counted in the whole parameter
  int64_t count = 0;
  float* value = nullptr;  // fp32 master, (count)
  float* exp_avg = nullptr;
  float* exp_avg_sq = nullptr;
};

class Engine : public UnitHooks {
 public:
  // Lays the declared table out and takes the memory that the stage keeps in the table.
  static void lay_out(ParamTable& table, int ranks, const EngineOptions& options,
                      ParamTable::Memory memory = ParamTable::Memory::kReal);

  // The table comes from lay_out with the same options. At stage 3, and with 16 bits, its values
  // are undefined until they were filled through filler().
  Engine(ParamTable& table, std::vector<ParamGroup> groups, Communicator& world, Backend& ops,
         const EngineOptions& options);

  const ParamTable& table() const { return table_; }
  const std::vector<ParamGroup>& groups() const { return groups_; }
  int64_t optimizer_steps() const { return steps_; }  // AdamW steps taken: skipped ones don't count
  void set_optimizer_steps(int64_t steps) { steps_ = steps; }

  // Who fills the values of all units, the same ones on every rank, opens each through this and
  // sees it in fp32.
  OpenUnit filler() { return values_.filler(); }
  // Collective: rank 0 runs `work`, which may open any unit to read its whole values in fp32: of
  // trained parameters the masters.
  void read_on_rank_0(const std::function<void(const OpenUnit&)>& work) {
    values_.read_on_rank_0(work);
  }
  // Of the frozen parameters' names, shapes and values as they were filled; the same at any stage
  // and in any precision. Collective.
  uint64_t frozen_hash() { return values_.frozen_hash(); }

  // What this rank owns of every trained parameter, in the table's order: together the ranks own
  // each element exactly once, the same slices at every stage. The pointers stay valid as long as
  // the engine. A parameter that lies in other ranks' slices only has no range. Where the state is
  // on a device this is a copy, as of the last call.
  std::vector<StateRange> owned_state();
  // All ranks take part: makes the owners' values and moments known wherever this stage keeps them.
  // After the owned state was changed from outside, as a checkpoint's load does.
  void publish_state();
  // Do the ranges stay as they are while steps are taken?
  bool owned_state_is_copied() const { return mirror_.copies(); }

  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override;
  void gradients_ready(int unit) override;

  // Gradients to zero. Through the hooks the engine then sees so many micro-batches; where they are
  // reduced once a step, this begins in the last one's backward.
  void begin_step(int64_t micro_batches);
  // Waits for the sums of the gradients over all ranks and computes the verdict. loss_scale: what
  // the loss was multiplied by before backward.
  GradientVerdict reduce_gradients(double loss_scale = 1);
  // Unscales, clips and takes one AdamW step with every group's rate times lr_factor.
  void step(const GradientVerdict& verdict, double lr_factor);

 private:
  // Elements of a unit's flat buffer; the gradient's after the reduction.
  Tensor gradient_at(int unit, const Slice& part) const;
  Tensor moment_at(const std::vector<Tensor>& moment, int unit, const Slice& part) const;
  void step_group(const ParamGroup& group, const AdamWStep& step);

  ParamTable& table_;
  std::vector<ParamGroup> groups_;
  Communicator& world_;
  Backend& ops_;
  EngineOptions options_;
  int64_t steps_ = 0;
  Values values_;
  Gradients gradients_;
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> exp_avg_;  // of each unit, of what this rank steps
  std::vector<Tensor> exp_avg_sq_;
  HostMirror mirror_;  // of the owned state
};

}  // namespace facet
