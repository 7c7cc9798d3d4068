// The model that answers --sample_prompts with --inference_tp_size N: each of N consecutive ranks
// has its part of the decoder (nn/weight_sharing.h), copied from the parameters that are trained.
#pragma once

#include <memory>

#include "device/arena.h"
#include "nn/param_table.h"
#include "ops/ops.h"
#include "options/options.h"
#include "train/model_setup.h"
#include "zero/unit_window.h"

namespace facet {

class CutModel {
 public:
  // The part of that rank of the job; of the ranks of a group the last one's is the largest.
  // Error(kConfig) if the model can't be cut so.
  CutModel(const Options& options, int rank);

  ModelSetup& setup() const { return *setup_; }

  // Takes the memory of the parameters, where it must stay as long as they are used; to measure
  // too.
  void take_memory(Arena& arena);
  // Copies this rank's part of all parameters of the whole table, which has the same ones. Where
  // those are partitioned, in which case it is collective, `window` has each unit by itself; else
  // it is nullptr.
  void fill(const ParamTable& whole, UnitWindow* window, Backend& ops);

 private:
  std::unique_ptr<ModelSetup> setup_;
};

// Each unit of the table by itself, as fill() uses them.
UnitGroups single_units(const ParamTable& table);

}  // namespace facet
