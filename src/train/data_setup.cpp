#include "train/data_setup.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "base/check.h"
#include "comm/mpi_session.h"
#include "data/chat_sample_builder.h"
#include "data/data_config.h"
#include "data/loader.h"
#include "data/prompt_texts.h"
#include "data/replay.h"
#include "train/feature_cache_setup.h"
#include "train/stricken_sample_builder.h"

namespace facet {

namespace {

// A single value applies to every data set.
template <typename T>
const T& value_for(const std::vector<T>& values, size_t dataset) {
  return values[values.size() == 1 ? 0 : dataset];
}

std::vector<DatasetRequest> requests_of(const std::vector<DatasetChoice>& choices) {
  std::vector<DatasetRequest> requests;
  for (const DatasetChoice& choice : choices)
    requests.push_back({choice.samples, choice.concatenate, choice.weight});
  return requests;
}

LoaderOptions loader_options(const Options& options, const Communicator& world) {
  LoaderOptions loader;
  loader.rank = world.rank();
  loader.ranks = world.size();
  loader.per_device_train_batch_size = options.per_device_train_batch_size;
  loader.per_device_eval_batch_size = options.per_device_eval_batch_size;
  loader.accumulation = options.gradient_accumulation_steps;
  loader.tokens_per_micro_batch = options.tokens_per_micro_batch;
  loader.num_workers = options.num_workers;
  loader.max_num_image_per_sample = options.max_num_image_per_sample;
  loader.bad_samples =
      options.bad_samples == "skip" ? BadSamplePolicy::kSkip : BadSamplePolicy::kError;
  if (!options.output_dir.empty())
    loader.bad_samples_path = BadSampleList::path_for(options.output_dir, world.rank());
  return loader;
}

// One collective a step: a rank that fails sends what is no number, and only then all meet again.
ExchangeOfRanks exchange_over(Communicator& world) {
  return [&world](size_t count, const std::function<std::vector<double>()>& measure) {
    std::vector<double> mine(count, NAN);
    std::exception_ptr failure;
    try {
      mine = measure();
    } catch (...) {
      failure = std::current_exception();
    }
    const std::span<const double> gathered = world.all_gather(mine);
    std::vector<double> all(gathered.begin(), gathered.end());
    if (std::any_of(all.begin(), all.end(), [](double number) { return std::isnan(number); }))
      collectively(world, [&] {
        if (failure) std::rethrow_exception(failure);
      });
    return all;
  };
}

PromptStyle prompt_style(const Options& options) {
  return options.visualchat() ? PromptStyle::kVisualChat : PromptStyle::kCorrect;
}

DatasetSources dataset_sources(const Options& options) {
  DatasetSources sources;
  sources.data_path = options.data_path;
  sources.caption_questions = load_caption_questions(options.caption_questions_file);
  sources.outside_images =
      options.allow_outside_images ? OutsideImages::kAllowed : OutsideImages::kRefused;
  sources.why_phrases = load_why_phrases(options.why_phrases_file);
  sources.max_images = options.max_num_image_per_sample;
  sources.style = prompt_style(options);
  if (!options.output_dir.empty()) sources.index_directory = options.output_dir + "/image_index";
  sources.image_root = options.image_root;
  return sources;
}

void open_replay(const Options& options, const ModelSetup& model, const Communicator& world,
                 DataSetup& data) {
  auto replay = std::make_unique<Replay>(options.replay, world.rank(), world.size());
  CHECK(replay->image_size() == model.config.image_size, ExitCode::kConfig,
        "{}: recorded images have {} pixels a side, the model reads {}; see --image_size",
        options.replay, replay->image_size(), model.config.image_size);
  for (int32_t d = 0; d < replay->num_datasets(); ++d)
    data.names.push_back(fmt::format("replay_{}", d));
  data.source = std::move(replay);
}

}  // namespace

std::vector<DatasetChoice> chosen_datasets(const Options& options) {
  if (!options.data_config.empty()) return read_data_config(options.data_config);
  std::vector<DatasetChoice> choices = choose_datasets(options.dataset_names);
  for (size_t d = 0; d < choices.size(); ++d) {
    const std::string& samples = value_for(options.dataset_samples, d);
    if (samples != "all") choices[d].samples = std::stoll(samples);
    choices[d].concatenate = value_for(options.dataset_concatenate_samples, d);
    if (!options.dataset_weights.empty()) choices[d].weight = options.dataset_weights[d];
  }
  return choices;
}

std::unique_ptr<PromptBuilder> make_prompt_builder(const Options& options,
                                                   const ModelSetup& model) {
  PromptConfig config;
  config.style = prompt_style(options);
  config.system_text = load_system_text(options.system_prompt_file);
  config.image_tokens = model.config.image_tokens();
  config.max_seq_len = options.max_seq_len;
  config.chat_template = model.chat_template;
  return std::make_unique<PromptBuilder>(*model.tokenizer, config);
}

void index_files(const Options& options, const Communicator& world) {
  if (world.rank() != 0 || !options.replay.empty()) return;
  for (const DatasetChoice& choice : chosen_datasets(options))
    index_files(choice, dataset_sources(options));
}

std::unique_ptr<DataSetup> open_data(const Options& options, const ModelSetup& model,
                                     Communicator& world) {
  auto data = std::make_unique<DataSetup>();
  if (!options.replay.empty()) {
    open_replay(options, model, world, *data);
    return data;
  }
  const DatasetSources sources = dataset_sources(options);
  data->choices = chosen_datasets(options);
  for (const DatasetChoice& choice : data->choices) {
    data->names.push_back(choice.name);
    data->datasets.push_back(open_dataset(choice, sources));
  }
  data->table = std::make_unique<SampleTable>(data->datasets, requests_of(data->choices),
                                              options.data_train_split_ratio,
                                              static_cast<uint64_t>(options.seed));
  data->prompt = make_prompt_builder(options, model);
  data->features = make_feature_cache(options, model);
  data->builder =
      std::make_unique<ChatSampleBuilder>(*model.tokenizer, *data->prompt, *model.preprocessor,
                                          options.max_image_pixels, data->features.get());
  if (FaultInjection faults = FaultInjection::of_run(options.inject); faults.strikes("data.read"))
    data->builder = std::make_unique<StrickenSampleBuilder>(std::move(data->builder),
                                                            std::move(faults), world.rank());
  LoaderOptions loader = loader_options(options, world);
  loader.work = &data->work;
  loader.exchange = exchange_over(world);
  data->source = std::make_unique<Loader>(*data->table, *data->builder, loader);
  return data;
}

}  // namespace facet
