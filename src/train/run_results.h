// What a run yields besides its checkpoints: evaluations and exported models. Collective.
#pragma once

#include <string>

#include "checkpoint/hugging_face.h"
#include "train/run.h"

namespace facet {

// The loss over the evaluation split after the last step taken, unless there is no such split or
// the loss is known. With --keep_best the best model so far is exported.
void evaluate_now(Run& run);

// OUT/NAME: the model as it is, or what was trained of it.
void export_to(Run& run, const std::string& name, ExportKind kind);

}  // namespace facet
