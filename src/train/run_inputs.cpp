#include "train/run_inputs.h"

#include "base/log.h"

namespace facet {

namespace {

std::unique_ptr<ModelSetup> declare_trained_model(const Options& options) {
  std::unique_ptr<ModelSetup> model = declare_model(options);
  choose_trained(options, model->table);
  check_pretrained(model->table, model->config, sources_of(options));  // before memory is taken
  return model;
}

std::unique_ptr<DataSetup> open_checked_data(const Options& options, const ModelSetup& model,
                                             Communicator& world) {
  std::unique_ptr<DataSetup> data = open_data(options, model, world);
  check_data_sets(options, *data);
  if (world.rank() == 0) write_debug_samples(options, model, *data);
  return data;
}

std::unique_ptr<BadSampleBudget> budget_of(const Options& options, const DataSetup& data) {
  if (data.table == nullptr) return nullptr;
  return std::make_unique<BadSampleBudget>(data.names, data.table->num_samples(Split::kTraining),
                                           options.max_bad_fraction);
}

std::unique_ptr<RecordingSource> recording_of(const Options& options, DataSetup& data,
                                              Communicator& world, RunBegin begin) {
  if (options.dump_batches == 0) return nullptr;
  if (begin == RunBegin::kContinued) {
    warn("--dump_batches records from the first step on: not in a continued run");
    return nullptr;
  }
  return std::make_unique<RecordingSource>(*data.source, options.dump_batches,
                                           options.output_dir + "/batches.h5", world);
}

}  // namespace

RunInputs::RunInputs(const Options& options, Communicator& world, RunBegin begin)
    : model(declare_trained_model(options)),
      data(open_checked_data(options, *model, world)),
      plan(plan_steps(options, *data->source)),
      schedule(make_schedule(options, plan)),
      bad_samples(budget_of(options, *data)),
      recording(recording_of(options, *data, world, begin)) {}

}  // namespace facet
