// facet plan --measured OUT: how fast an earlier run computed, from its loss_log.csv and
// options.cfg.
#pragma once

#include <cstdint>
#include <string>

#include "options/options.h"

namespace facet {

struct MeasuredSpeed {
  double flops_per_second = 0;  // of a rank, all waiting included
  std::string text;             // how it was found, and what of the plan differs
};

// Operations are those of the log's column model_flops, or where it has none those that a plan
// counts for the run's average sample; with the images of the plan's --average_images if it names
// an average sample, else one. The first step of each start, which touches new memory, does not
// count. Error(kMissingInput) if a file is not there, Error(kBadData) if nothing can be measured in
// it.
MeasuredSpeed measured_speed(const Options& plan);

}  // namespace facet
