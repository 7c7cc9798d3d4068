// The engine around the model: owns the optimizer state, reduces gradients over the ranks, clips,
// and steps. The model meets it only as UnitHooks.
//
// Here is stage 0: everything is replicated. The norm is nevertheless accumulated over the
// partition slices that stages 1-3 own, in rank order, so that all stages see the same bits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "device/arena.h"
#include "nn/context.h"
#include "nn/param_table.h"
#include "optim/param_groups.h"

namespace facet {

struct EngineOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-6;
  double gradient_clipping = 1.0;  // the largest global L2 norm; 0: no clipping
};

// What all ranks know alike after the gradients were reduced.
struct GradientVerdict {
  double norm = 0;         // global L2 norm of the reduced gradient
  double clip_factor = 1;  // 1 / max(1, (norm + 1e-6) / gradient_clipping)
  bool finite = true;
  std::string first_bad_parameter;  // where the first non-finite element stands, "" when finite
};

// A run of one trained parameter's elements that this rank owns: what it saves and restores.
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
  // The table is laid out with padding partition_padding(world.size()) and has gradients.
  Engine(ParamTable& table, std::vector<ParamGroup> groups, Communicator& world, Backend& ops,
         const EngineOptions& options);

  const std::vector<ParamGroup>& groups() const { return groups_; }
  int64_t optimizer_steps() const { return steps_; }  // AdamW steps taken: skipped ones don't count
  void set_optimizer_steps(int64_t steps) { steps_ = steps; }

  // What this rank owns of every trained parameter, in the table's order: together the ranks own
  // each element exactly once, the same slices at every stage. The pointers stay valid as long as
  // the engine. A parameter that lies in other ranks' slices only has no range.
  std::vector<StateRange> owned_state();
  // All ranks take part: makes the owners' values and moments known wherever this stage keeps them.
  // After the owned state was changed from outside, as a checkpoint's load does.
  void publish_state();

  // Gradients to zero, at the begin of a step.
  void begin_step();
  // Sums the gradients over all ranks and computes the verdict.
  GradientVerdict reduce_gradients();
  // Clips and takes one AdamW step with every group's rate times lr_factor.
  void step(const GradientVerdict& verdict, double lr_factor);

  // Bytes of exp_avg and exp_avg_sq for a table, as this engine allocates them.
  static int64_t optimizer_bytes(const ParamTable& table);

 private:
  ParamTable& table_;
  std::vector<ParamGroup> groups_;
  Communicator& world_;
  Backend& ops_;
  EngineOptions options_;
  int64_t steps_ = 0;
  std::unique_ptr<Arena> memory_;
  std::vector<Tensor> exp_avg_;  // of each unit, beside its trained_values
  std::vector<Tensor> exp_avg_sq_;
};

}  // namespace facet
