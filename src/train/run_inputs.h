// What a run trains and what it trains on, before any memory of the model's size is taken: the
// declared model, the data, how many steps they make.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "data/bad_samples.h"
#include "optim/lr_schedule.h"
#include "options/options.h"
#include "train/data_setup.h"
#include "train/model_setup.h"
#include "train/recording_source.h"
#include "train/run_setup.h"

namespace facet {

enum class RunBegin : uint8_t { kNew, kContinued };

struct RunInputs {
  // Throws errors of this rank alone; the caller has the ranks agree on them.
  RunInputs(const Options& options, Communicator& world, RunBegin begin);

  // Of the training steps.
  BatchSource& source() const { return recording ? *recording : *data->source; }
  int64_t num_datasets() const { return static_cast<int64_t>(data->names.size()); }

  const std::unique_ptr<ModelSetup> model;
  const std::unique_ptr<DataSetup> data;
  const StepPlan plan;
  const LrSchedule schedule;
  const std::unique_ptr<BadSampleBudget> bad_samples;  // nullptr in a replay, which leaves none out
  const std::unique_ptr<RecordingSource> recording;    // with --dump_batches
};

}  // namespace facet
