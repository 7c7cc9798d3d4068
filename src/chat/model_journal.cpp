#include "chat/model_journal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/adapter.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/weight_origins.h"
#include "comm/mpi_session.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/input_file.h"
#include "io/json.h"
#include "options/option_table.h"

namespace facet {

namespace {

// The regular files that the model is read from, by name.
std::vector<std::string> model_files(const AnsweringModel& model) {
  namespace fs = std::filesystem;
  const PretrainedSources sources =
      sources_of(model.stored ? model.stored->options : model.options);
  std::vector<std::string> files;
  if (model.stored) files.push_back(state_file_of(model.stored->checkpoint));
  std::error_code error;
  std::vector<std::string> directories = {sources.lm_directory, sources.vision_directory};
  if (!sources.adapter.empty()) {
    const Adapter adapter = read_adapter(sources.adapter);
    for (const std::optional<AdapterPart>& part : {adapter.lang, adapter.vision})
      if (part) directories.push_back(part->directory);
    if (!adapter.other_file.empty()) files.push_back(adapter.other_file);
  }
  for (const std::string& directory : directories)
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
      if (entry.is_regular_file(error)) files.push_back(entry.path().string());
  if (const std::string file = projection_file_of(sources); !file.empty()) files.push_back(file);
  std::sort(files.begin(), files.end());
  return files;
}

// "--stop_strings a b" and "a b" are not the same.
std::string quoted_words(const OptionField& field, const Options& options) {
  std::vector<std::string> words = option_words(field, options);
  for (std::string& word : words) word = json_string(word);
  return fmt::format("{}", fmt::join(words, " "));
}

// What answers depend on, a line each: the options, the questions and the system prompt, and the
// model's files by size and time.
std::string identity_of(const AnsweringModel& model) {
  const Options& options = model.options;
  const std::set<std::string_view> without_effect = {"output",
                                                     "csv",
                                                     "config",
                                                     "threads",
                                                     "device_collectives",
                                                     "checkpoint_names",
                                                     "checkpoint_path",
                                                     "decode_batch"};
  std::string text;
  for (const OptionField& field : option_table())
    if (field.known_to(Command::kGenerate) && !without_effect.contains(field.name) &&
        !std::string_view(field.name).starts_with("hang_"))
      text += fmt::format("{} = {}\n", field.name, quoted_words(field, options));
  for (const std::string& path : {options.input, options.system_prompt_file}) {
    if (path.empty()) continue;
    const std::string content = read_file(path, JsonDocument::kMaxDataBytes);
    text += fmt::format("content of {}: {}\n", path,
                        hash_of(content.data(), static_cast<int64_t>(content.size())));
  }
  for (const std::string& path : model_files(model)) {
    const InputFile file(path);
    text += fmt::format("{} of {} bytes, changed {}\n", path, file.bytes(), file.modified());
  }
  return text;
}

// Of several models each has its own, by the end of its name; paths are told apart by a hash.
std::string journal_place(const AnsweringModel& model) {
  const std::string &name = model.name, &output = model.options.output;
  if (name.empty()) return output;
  const size_t slash = name.find_last_of('/');
  if (slash == std::string::npos) return output + "." + name;
  const std::string hash = hash_of(name.data(), static_cast<int64_t>(name.size()));
  return fmt::format("{}.{}-{}", output, name.substr(slash + 1), hash.substr(0, 8));
}

}  // namespace

std::unique_ptr<AnswerJournal> open_journal(const AnsweringModel& model, Communicator& world) {
  std::string identity;
  collectively(world, [&] {
    if (world.rank() == 0) identity = identity_of(model);
  });
  return std::make_unique<AnswerJournal>(journal_place(model), identity, world);
}

}  // namespace facet
