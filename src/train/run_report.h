// What a run says about itself at its start and its end, and whether its plan held.
#pragma once

#include "train/run.h"

namespace facet {

// Groups, memory, traffic and steps, as planned.
void report_setup(const Run& run);

// After the first step: whether the ranks send what was planned. Collective.
void report_traffic(const Run& run, const StepReport& report);

// At the end: the memory that the arenas held, beside the plan. Collective.
void report_memory(const Run& run);

// Lets all ranks find the features that each has stored, if a cache of them is kept. Collective.
void share_features(Run& run);
// After an epoch: what became of its images, where a cache of features is kept. Collective.
void report_features(Run& run);

// At the end: micro-batches and samples that did not count.
void report_left_out(Run& run);

}  // namespace facet
