// What answering --sample_prompts within a run takes, found out before any memory is taken.
#pragma once

#include <vector>

#include "train/measured_pass.h"
#include "train/passes_together.h"
#include "train/questions.h"
#include "zero/unit_window.h"

namespace facet {

struct SamplingPlan {
  PassMemory memory;              // of any rank, whichever of the questions it answers
  PassOrder order;                // of the units
  UnitGroups groups;              // that are gathered at a time, where parameters are partitioned
  std::vector<int64_t> elements;  // of each unit, gathered
};

// From a table that Engine::lay_out made.
SamplingPlan plan_sampling(const Options& options, const ModelSetup& model,
                           const Questions& questions, int ranks);

}  // namespace facet
