// From the command line to micro-batches: the data sets, or a recorded file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/batch_source.h"
#include "data/feature_cache.h"
#include "data/order.h"
#include "data/prompt.h"
#include "data/sample_builder.h"
#include "data/sample_work.h"
#include "options/options.h"
#include "train/model_setup.h"

namespace facet {

struct DataSetup {
  std::vector<std::string> names;      // of the data sets; replay_0 .. for a recorded file
  std::vector<DatasetChoice> choices;  // empty in a replay
  std::vector<std::unique_ptr<Dataset>> datasets;
  std::unique_ptr<SampleTable> table;  // nullptr in a replay
  std::unique_ptr<PromptBuilder> prompt;
  std::unique_ptr<FeatureCache> features;  // nullptr: none are kept
  std::unique_ptr<SampleBuilder> builder;
  WorkModel work;  // with --tokens_per_micro_batch, from lay_out_and_plan() on
  std::unique_ptr<BatchSource> source;
};

// From --dataset_names and the options that go with it, or from --data_config.
std::vector<DatasetChoice> chosen_datasets(const Options& options);

// The same prompt for training and generation.
std::unique_ptr<PromptBuilder> make_prompt_builder(const Options& options, const ModelSetup& model);

// Rank 0 writes the indexes of large files into the output directory, where open_data() then finds
// them on every rank. Under collectively(), once the directory is this run's.
void index_files(const Options& options, const Communicator& world);

std::unique_ptr<DataSetup> open_data(const Options& options, const ModelSetup& model,
                                     Communicator& world);

}  // namespace facet
