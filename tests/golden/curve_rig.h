// Training curves of the golden files, walked by the program's own model, engine and step.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "optim/param_groups.h"
#include "tests/golden/golden_file.h"
#include "train/compute_device.h"
#include "train/train_step.h"

namespace facet::golden {

ComputeDevice open_cpu(Communicator& world);

struct CurveChoices {
  LossAverage average = LossAverage::kGlobal;
  NoDecayRule rule = NoDecayRule::kBiasAndNorms;
  DType dtype = DType::kF32;
  std::function<ComputeDevice(Communicator&)> open_device = open_cpu;
  int64_t activation_bytes = int64_t{1} << 30;
  int64_t input_bytes = 0;  // of each input buffer; 0: there are none
  // Each rank takes its share of a step's micro-batches, whose number the ranks must divide.
  MPI_Comm ranks = MPI_COMM_SELF;
  int64_t zero_stage = 0;
  enum class Recompute : uint8_t { kNo, kYes } recompute = Recompute::kNo;
  int64_t steps = 0;          // only the first ones; 0: all
  int64_t micro_batches = 0;  // of a step; 0: what the case says
  std::function<void()> after_step = [] {};
};

struct Curve {
  std::vector<double> losses, norms;  // of each step
  bool operator==(const Curve&) const = default;
};

// The case `name` from hashed weights; it trains what the model trains by default and what the
// case's "unfreeze" names.
Curve walk_curve(const GoldenFile& file, const std::string& name, const CurveChoices& choices);

// max over the steps |ours - exact|; infinite where one is not a number.
double largest_error(const std::vector<double>& ours, const std::vector<double>& exact);

}  // namespace facet::golden
