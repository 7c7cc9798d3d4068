// What to do about a step whose gradient was not finite.
#pragma once

#include "train/run.h"

namespace facet {

// Logs where the first number is that is not finite. A loss scale of fp16 that can still fall is
// expected to overflow: nothing is looked into then, unless the loss itself is not finite. Throws
// CollectiveError(kNumericStop) where going on makes no sense. Collective.
void explain_skipped_step(Run& run, const StepReport& report);

}  // namespace facet
