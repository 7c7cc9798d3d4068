// What a model says while it is trained: the answers to --sample_prompts. Collective.
#pragma once

#include "train/run.h"

namespace facet {

// Answers the questions with the model as it is, unless that was done after this step already. A
// question that cannot be answered has an error in its line, and training goes on. Draws of
// training, its memory and its order of gathering are left alone.
void sample_now(Run& run);

}  // namespace facet
