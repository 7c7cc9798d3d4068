// What a run computes with: the engine that holds the parameters, the memory for activations, and
// the training step.
#pragma once

#include <optional>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "device/arena.h"
#include "job/fault_injection.h"
#include "optim/loss_scaler.h"
#include "options/options.h"
#include "train/compute_device.h"
#include "train/poisoning_hooks.h"
#include "train/run_costs.h"
#include "train/run_inputs.h"
#include "train/train_step.h"
#include "zero/engine.h"

namespace facet {

// Takes the memory of the parameters and plans the rest, for this rank alone.
RunCosts lay_out_and_plan(const Options& options, RunInputs& inputs, MemoryResource& memory,
                          int ranks, const Questions* questions = nullptr);

struct StepEngine {
  // After lay_out_and_plan(): takes the rest of the memory and loads the weights. Throws errors of
  // this rank alone; the caller has the ranks agree on them. The arguments before `memory` outlive
  // it.
  StepEngine(const Options& options, Communicator& world, ComputeDevice& device,
             const FaultInjection& faults, RunInputs& inputs, const MemoryPlan& memory);

  Engine engine;
  const LoadReport loaded;                    // where the weights came from
  Arena arena;                                // of the activations
  Backend& layers;                            // computes them
  std::optional<InputBuffers> input_buffers;  // where the plan has any
  std::optional<PoisoningHooks> poison;       // with --inject nan@grad
  Context context;                            // of a pass over the model
  std::optional<LossScaler> scaler;           // with fp16
  TrainStep step;
};

// The cache of the inputs, if there is one, serves this engine's model from here on. Collective.
void begin_feature_cache(const Options& options, MpiSession& session, const ComputeDevice& device,
                         const RunInputs& inputs, Engine& engine);

}  // namespace facet
