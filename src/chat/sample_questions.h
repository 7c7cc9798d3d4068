// The questions of --sample_prompts, which the model answers while it is trained.
#pragma once

#include <memory>

#include "options/options.h"
#include "train/questions.h"

namespace facet {

// See OpenQuestions.
std::unique_ptr<Questions> open_sample_questions(const Options& options, ModelSetup& model);

}  // namespace facet
