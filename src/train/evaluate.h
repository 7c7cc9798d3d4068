// The loss over the evaluation split: each sample once, weighted by its labelled tokens.
#pragma once

#include <functional>

#include "comm/communicator.h"
#include "data/batch_source.h"
#include "nn/context.h"
#include "train/model_setup.h"
#include "train/step_report.h"

namespace facet {

// Collective. The report's step and epoch are left to the caller. Each rank calls before_batch()
// before each of its micro-batches; what that throws on any rank is thrown on all.
EvalReport evaluate(
    ModelSetup& setup, Context& context, Communicator& world, BatchSource& source,
    int64_t num_datasets, const std::function<void()>& before_batch = [] {});

}  // namespace facet
