#include "train/resume.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <map>
#include <sstream>

#include "base/check.h"
#include "comm/mpi_session.h"
#include "data/prompt_texts.h"
#include "data/tokenizer_files.h"
#include "io/input_file.h"
#include "options/option_table.h"

namespace facet {

namespace {

using OptionTexts = std::map<std::string, std::string>;

// The lines "name = value" of resolved_options().
OptionTexts parse_lines(const std::string& text) {
  OptionTexts options;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const size_t equals = line.find(" =");
    if (line.starts_with('#') || equals == std::string::npos) continue;
    options[line.substr(0, equals)] = line.substr(std::min(line.size(), equals + 3));
  }
  return options;
}

bool may_change(const std::string& name) {
  const OptionField* option = find_option(name);
  return option != nullptr && option->on_resume == OnResume::kMayChange;
}

// An option that the stored run did not have yet counts as its default, which changed nothing.
std::string option_differences(const std::string& stored_text, const std::string& now_text) {
  const OptionTexts stored = parse_lines(stored_text), now = parse_lines(now_text);
  const OptionTexts defaults = parse_lines(resolved_options(Command::kTrain, Options{}));
  std::string differences;
  for (const auto& [name, value] : now) {
    if (may_change(name)) continue;
    const auto found = stored.find(name);
    const std::string& before = found != stored.end() ? found->second : defaults.at(name);
    if (before != value)
      differences += fmt::format("\n  --{} was '{}', is '{}'", name, before, value);
  }
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
  const std::string word = value_of(parse_lines(text), "num_train_epochs", checkpoint);
  int64_t epochs = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), epochs);
  CHECK(error == std::errc() && end == word.data() + word.size() && epochs >= 1, ExitCode::kBadData,
        "{}: its options say {} epochs", checkpoint, word);
  return epochs;
}

// Recorded micro-batches have no bad samples to count.
size_t counted_datasets(const OptionTexts& options, const std::string& checkpoint) {
  if (!value_of(options, "replay", checkpoint).empty()) return 0;
  std::istringstream names(value_of(options, "dataset_names", checkpoint));
  return static_cast<size_t>(std::distance(std::istream_iterator<std::string>(names),
                                           std::istream_iterator<std::string>()));
}

std::string file_fingerprint(const std::string& path) {
  const InputFile file(path);
  Hasher hasher;
  file.hash_into(hasher, 0, file.bytes());
  return hasher.digest();
}

// Everything that makes a sample: annotations and draws, texts around them, the tokenizer.
std::string data_fingerprint(const Options& options, const DataSetup& data) {
  if (data.table == nullptr) return file_fingerprint(options.replay);
  std::string parts = fmt::format("{:016x}\n", data.table->fingerprint());
  parts += load_system_text(options.system_prompt_file);
  for (const std::string& question : load_caption_questions(options.caption_questions_file))
    parts += "\n" + question;
  parts += file_fingerprint(options.lm_model_name_or_path + "/tokenizer.model");
  parts += read_tokenizer_files(options.lm_model_name_or_path).identity();
  return hash_of(parts.data(), static_cast<int64_t>(parts.size()));
}

}  // namespace

RunState identify_run(const Options& options, const DataSetup& data, const std::string& frozen_hash,
                      int64_t total_steps, Communicator& world) {
  RunState run;
  run.rng_seed = options.seed;
  run.ranks = world.size();
  run.global_batch =
      options.per_device_train_batch_size * world.size() * options.gradient_accumulation_steps;
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
  const size_t datasets = counted_datasets(parse_lines(stored.options), checkpoint);
  CHECK(
      stored.bad_samples_in_epoch.size() == datasets && stored.bad_samples_total.size() == datasets,
      ExitCode::kBadData, "{}: {} and {} counts of bad samples for {} data sets", checkpoint,
      stored.bad_samples_in_epoch.size(), stored.bad_samples_total.size(), datasets);
}

void check_same_run(const RunState& stored, const RunState& now, const std::string& checkpoint) {
  std::string differences = option_differences(stored.options, now.options);
  if (stored.data_fingerprint != now.data_fingerprint)
    differences += "\n  the data differ: annotations, choice of samples, prompt texts or tokenizer";
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
  constexpr std::array<const char*, 9> kNames = {"precision",
                                                 "per_device_train_batch_size",
                                                 "gradient_accumulation_steps",
                                                 "zero_stage",
                                                 "reduce_every_micro_batch",
                                                 "communication_data_type",
                                                 "device",
                                                 "num_train_epochs",
                                                 "max_steps"};
  const OptionTexts before = parse_lines(stored.options), after = parse_lines(now.options);
  std::string changes;
  if (stored.ranks != now.ranks)
    changes += fmt::format("\n  {} ranks then, {} now", stored.ranks, now.ranks);
  for (const char* name : kNames) {
    const auto then = before.find(name);
    if (then != before.end() && then->second != after.at(name))
      changes += fmt::format("\n  --{} was '{}', is '{}'", name, then->second, after.at(name));
  }
  return changes;
}

}  // namespace facet
