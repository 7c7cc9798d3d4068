#include "train/resume.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <sstream>
#include <string_view>

#include "base/check.h"
#include "comm/mpi_session.h"
#include "data/prompt_texts.h"
#include "data/tokenizer.h"
#include "io/input_file.h"
#include "options/option_table.h"
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

// Recorded micro-batches have no bad samples to count. The fingerprint is one word and one for each
// data set; older ones are one word alone.
size_t counted_datasets(const RunState& stored, const std::string& checkpoint) {
  const OptionTexts options = option_texts(stored.options);
  if (const size_t words = words_of(stored.data_fingerprint).size(); words > 1) return words - 1;
  if (!value_of(options, "replay", checkpoint).empty()) return 0;
  return words_of(value_of(options, "dataset_names", checkpoint)).size();
}

std::string file_fingerprint(const std::string& path) {
  const InputFile file(path);
  Hasher hasher;
  file.hash_into(hasher, 0, file.bytes());
  return hasher.digest();
}

// Whether why_phrases_file matters.
bool asks_for_reasons(const DataSetup& data) {
  return std::any_of(data.choices.begin(), data.choices.end(),
                     [](const DatasetChoice& choice) { return choice.type == "aokvqa"; });
}

// Everything that makes a sample: annotations and draws, texts around them, the tokenizer.
std::string hash_of_data(const Options& options, const DataSetup& data) {
  std::string parts = fmt::format("{:016x}\n", data.table->fingerprint());
  parts += load_system_text(options.system_prompt_file);
  for (const std::string& question : load_caption_questions(options.caption_questions_file))
    parts += "\n" + question;
  if (asks_for_reasons(data))
    for (const std::string& phrase : load_why_phrases(options.why_phrases_file))
      parts += "\n" + phrase;
  parts += file_fingerprint(options.lm_model_name_or_path + "/" +
                            tokenizer_file(options.lm_model_name_or_path));
  parts += read_tokenizer_files(options.lm_model_name_or_path).identity();
  return hash_of(parts.data(), static_cast<int64_t>(parts.size()));
}

// One hash that decides, and NAME=HASH of the files of every data set, to say which have changed.
std::string data_fingerprint(const Options& options, const DataSetup& data) {
  if (data.table == nullptr) return file_fingerprint(options.replay);
  std::string words = hash_of_data(options, data);
  for (size_t d = 0; d < data.names.size(); ++d)
    words += fmt::format(" {}={:016x}", data.names[d], data.datasets[d]->fingerprint());
  return words;
}

// What differs between two fingerprints; those of older checkpoints are the hash alone.
std::string data_differences(const std::string& stored, const std::string& now) {
  const std::vector<std::string> before = words_of(stored), after = words_of(now);
  if (!before.empty() && !after.empty() && before[0] == after[0]) return "";
  std::string names;
  for (size_t i = 1; i < std::min(before.size(), after.size()); ++i)
    if (before[i] != after[i]) names += " " + after[i].substr(0, after[i].find('='));
  if (!names.empty()) return "\n  the files of these data sets have changed:" + names;
  return "\n  the data differ: annotations, choice of samples, prompt texts or tokenizer";
}

}  // namespace

RunState identify_run(const Options& options, const DataSetup& data, const std::string& frozen_hash,
                      int64_t total_steps, Communicator& world) {
  RunState run;
  run.rng_seed = options.seed;
  run.ranks = world.size();
  run.global_batch = options.samples_of_rank() * world.size();
  run.total_steps = total_steps;
  run.options = resolved_options(Command::kTrain, options);
  run.frozen_hash = frozen_hash;
  collectively(world, [&] {
    if (world.rank() == 0) run.data_fingerprint = data_fingerprint(options, data);
  });
  world.broadcast(run.data_fingerprint, 0);
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
  differences += data_differences(stored.data_fingerprint, now.data_fingerprint);
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
  constexpr std::array<std::string_view, 10> kNames = {"precision",
                                                       "per_device_train_batch_size",
                                                       "gradient_accumulation_steps",
                                                       "tokens_per_micro_batch",
                                                       "zero_stage",
                                                       "reduce_every_micro_batch",
                                                       "communication_data_type",
                                                       "device",
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
