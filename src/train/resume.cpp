#include "train/resume.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "base/check.h"
#include "comm/mpi_session.h"
#include "data/prompt_texts.h"
#include "data/tokenizer_files.h"
#include "io/shared_file.h"
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

int64_t epochs_of(const std::string& text) {
  return std::stoll(parse_lines(text).at("num_train_epochs"));
}

std::string file_fingerprint(const std::string& path) {
  const SharedFile file = SharedFile::open_for_reading(path);
  Hasher hasher;
  file.hash_into(hasher, 0, file.size());
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
  if (epochs_of(now.options) < epochs_of(stored.options))
    differences += fmt::format("\n  --num_train_epochs was {}, is {}: it may only grow",
                               epochs_of(stored.options), epochs_of(now.options));
  CHECK(differences.empty(), ExitCode::kConfig,
        "{} is of another run; repeat its options, or choose another --output_dir:{}", checkpoint,
        differences);
}

}  // namespace facet
