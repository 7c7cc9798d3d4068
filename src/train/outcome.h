// Whether the model that a run has made is of any use.
#pragma once

#include "train/run.h"

namespace facet {

enum class EndOfRun : uint8_t { kNo, kYes };

// OUT/epoch-N at an epoch's end, as export_plan.h says, unless no step of the run has changed a
// weight so far or the last evaluation has no finite loss: what lies under that name looks like a
// trained model. Then the exports that --keep_exports has no place for are removed. Collective.
void export_epoch(Run& run, EndOfRun end);

// At the end of a run whose model would not be exported: CollectiveError(kNumericStop). What was
// saved stays. Collective.
void check_outcome(Run& run);

}  // namespace facet
