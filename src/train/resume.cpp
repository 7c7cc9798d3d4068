#include "train/resume.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <sstream>
#include <string_view>

#include "base/check.h"
#include "comm/mpi_session.h"
#include "options/option_table.h"
#include "train/data_identity.h"
#include "train/lora_alphas.h"
#include "train/option_texts.h"

namespace facet {

namespace {

bool may_change(const std::string& name) {
  const OptionField* option = find_option(name);
  return option != nullptr && option->on_resume == OnResume::kMayChange;
}

std::string option_differences(const std::string& stored, const std::string& now) {
  std::string differences;
  for (const OptionChange& change : option_changes(option_texts(stored), option_texts(now)))
    if (!may_change(change.name))
      differences +=
          fmt::format("\n  --{} was '{}', is '{}'", change.name, change.before, change.now);
  return differences;
}

// The value of an option that every run has.
std::string value_of(const OptionTexts& options, const std::string& name,
                     const std::string& checkpoint) {
  const auto found = options.find(name);
  CHECK(found != options.end(), ExitCode::kBadData, "{}: its options lack {}", checkpoint, name);
  return found->second;
}

int64_t epochs_of(const std::string& text, const std::string& checkpoint) {
  const std::string word = value_of(option_texts(text), "num_train_epochs", checkpoint);
  int64_t epochs = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), epochs);
  CHECK(error == std::errc() && end == word.data() + word.size() && epochs >= 1, ExitCode::kBadData,
        "{}: its options say {} epochs", checkpoint, word);
  return epochs;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), std::istream_iterator<std::string>()};
}

// Recorded micro-batches have no bad samples to count. Older fingerprints name no data sets.
size_t counted_datasets(const RunState& stored, const std::string& checkpoint) {
  const OptionTexts options = option_texts(stored.options);
  if (const size_t named = datasets_named_in(stored.data_fingerprint); named > 0) return named;
  if (!value_of(options, "replay", checkpoint).empty()) return 0;
  return words_of(value_of(options, "dataset_names", checkpoint)).size();
}

// Rank 0 looks at the files; a path has no NUL byte.
void identify_data_on_all(const Options& options, const DataSetup& data, Communicator& world,
                          RunState& run) {
  DataIdentity identity;
  std::string files;
  collectively(world, [&] {
    if (world.rank() == 0) identity = identify_data(options, data);
  });
  for (const std::string& file : identity.files) files += file + '\0';
  world.broadcast(identity.fingerprint, 0);
  world.broadcast(files, 0);
  run.data_fingerprint = identity.fingerprint;
  std::istringstream stream(files);
  for (std::string file; std::getline(stream, file, '\0');) run.data_files.push_back(file);
}

}  // namespace

RunState identify_run(const Options& options, const VlmConfig& model, const DataSetup& data,
                      const std::string& frozen_hash, int64_t total_steps, Communicator& world) {
  RunState run;
  run.rng_seed = options.seed;
  run.ranks = world.size();
  run.global_batch = options.samples_of_rank() * world.size();
  run.total_steps = total_steps;
  run.options = resolved_options(Command::kTrain, options);
  run.frozen_hash = frozen_hash;
  run.own_alphas = own_alphas(model);
  identify_data_on_all(options, data, world, run);
  return run;
}

namespace {

// Every step is one of an epoch of some number of steps.
bool place_is_possible(const RunState& state) {
  const int64_t before_epoch = state.step - state.next_step;
  if (state.epoch == 0) return before_epoch == 0;
  return before_epoch > 0 && before_epoch % state.epoch == 0 &&
         state.next_step <= before_epoch / state.epoch;
}

}  // namespace

void check_stored_state(const RunState& stored, const std::string& checkpoint) {
  CHECK(place_is_possible(stored) && stored.optimizer_steps <= stored.step, ExitCode::kBadData,
        "{}: step {} cannot be step {} of epoch {} after {} of the optimizer", checkpoint,
        stored.step, stored.next_step, stored.epoch + 1, stored.optimizer_steps);
  static_cast<void>(epochs_of(stored.options, checkpoint));
  const size_t datasets = counted_datasets(stored, checkpoint);
  CHECK(
      stored.bad_samples_in_epoch.size() == datasets && stored.bad_samples_total.size() == datasets,
      ExitCode::kBadData, "{}: {} and {} counts of bad samples for {} data sets", checkpoint,
      stored.bad_samples_in_epoch.size(), stored.bad_samples_total.size(), datasets);
}

void check_same_run(const RunState& stored, const RunState& now, const std::string& checkpoint) {
  std::string differences = option_differences(stored.options, now.options);
  differences += alpha_differences(stored.own_alphas, now.own_alphas);
  differences += data_differences(stored, now);
  if (stored.frozen_hash != now.frozen_hash) differences += "\n  the frozen weights differ";
  if (stored.global_batch != now.global_batch)
    differences += fmt::format(
        "\n  a step had {} samples, now {} (--per_device_train_batch_size x ranks x "
        "--gradient_accumulation_steps)",
        stored.global_batch, now.global_batch);
  const int64_t epochs = epochs_of(now.options, "this run");
  const int64_t before = epochs_of(stored.options, checkpoint);
  if (epochs < before)
    differences +=
        fmt::format("\n  --num_train_epochs was {}, is {}: it may only grow", before, epochs);
  CHECK(differences.empty(), ExitCode::kConfig,
        "{} is of another run; repeat its options, or choose another --output_dir:{}", checkpoint,
        differences);
}

std::string changes_of_numbers(const RunState& stored, const RunState& now) {
  constexpr std::array<std::string_view, 14> kNames = {"precision",
                                                       "per_device_train_batch_size",
                                                       "gradient_accumulation_steps",
                                                       "tokens_per_micro_batch",
                                                       "zero_stage",
                                                       "reduce_every_micro_batch",
                                                       "communication_data_type",
                                                       "device",
                                                       "product_algorithms",
                                                       "attention",
                                                       "attention_backward",
                                                       "lora_products",
                                                       "num_train_epochs",
                                                       "max_steps"};
  std::string changes;
  if (stored.ranks != now.ranks)
    changes += fmt::format("\n  {} ranks then, {} now", stored.ranks, now.ranks);
  for (const OptionChange& change :
       option_changes(option_texts(stored.options), option_texts(now.options)))
    if (std::find(kNames.begin(), kNames.end(), change.name) != kNames.end())
      changes += fmt::format("\n  --{} was '{}', is '{}'", change.name, change.before, change.now);
  return changes;
}

}  // namespace facet
