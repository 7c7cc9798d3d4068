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

ComputeDevice open_cpu();

struct CurveChoices {
  LossAverage average = LossAverage::kGlobal;
  NoDecayRule rule = NoDecayRule::kBiasAndNorms;
  DType dtype = DType::kF32;
  std::function<ComputeDevice()> open_device = open_cpu;
  int64_t activation_bytes = int64_t{1} << 30;
};

struct Curve {
  std::vector<double> losses, norms;  // of each step
};

// The case `name` from hashed weights, on one rank; it trains what SPEC 1 trains by default.
Curve walk_curve(const GoldenFile& file, const std::string& name, const CurveChoices& choices);

}  // namespace facet::golden
