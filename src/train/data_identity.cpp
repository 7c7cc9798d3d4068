#include "train/data_identity.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <sstream>

#include "data/prompt_texts.h"
#include "data/tokenizer.h"
#include "io/input_file.h"
#include "train/option_texts.h"

namespace facet {

namespace {

// The fingerprint is an attribute of the checkpoint, which may have 64 KiB. A data set whose files
// would lead beyond this is told by its name alone.
constexpr size_t kMostBytes = 32 << 10;

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

std::string text_of(const SourceFile& file) {
  const std::string hash = fmt::format("{:08x}", file.hash & UINT32_MAX);
  if (file.hashed == SourceFile::Hashed::kBytes) return hash;
  const int64_t stamp[] = {file.bytes, file.modified};
  return fmt::format("{}-{:08x}", hash, XXH3_64bits(stamp, sizeof stamp) & UINT32_MAX);
}

std::string deciding_hash(const std::string& fingerprint) {
  return fingerprint.substr(0, fingerprint.find(' '));
}

// A data set in a fingerprint.
struct StoredDataset {
  std::string name, hash;
  std::vector<std::string> files;
};

StoredDataset stored_dataset(const std::string& word) {
  std::istringstream stream(word);
  StoredDataset dataset;
  std::getline(stream, dataset.name, '=');
  std::getline(stream, dataset.hash, ',');
  for (std::string file; std::getline(stream, file, ',');) dataset.files.push_back(file);
  return dataset;
}

std::vector<StoredDataset> stored_datasets(const std::string& fingerprint) {
  std::vector<StoredDataset> datasets;
  std::istringstream stream(fingerprint.substr(deciding_hash(fingerprint).size()));
  for (std::string word; stream >> word;) datasets.push_back(stored_dataset(word));
  return datasets;
}

// Of a FILE.
std::string hash_in(const std::string& file) { return file.substr(0, file.find('-')); }

std::string names_of(const std::vector<StoredDataset>& datasets) {
  std::string names;
  for (const StoredDataset& dataset : datasets) names += " " + dataset.name;
  return names;
}

// Calls found(dataset, file as stored, file now, path) for the files of all data sets that have as
// many of them as before.
template <typename Found>
void visit_files(const std::vector<StoredDataset>& before, const std::vector<StoredDataset>& after,
                 const std::vector<std::string>& paths, const Found& found) {
  size_t first = 0;
  for (size_t d = 0; d < after.size(); first += after[d++].files.size()) {
    if (before[d].files.size() != after[d].files.size()) continue;
    for (size_t f = 0; f < after[d].files.size(); ++f)
      found(d, before[d].files[f], after[d].files[f], paths[first + f]);
  }
}

// How a data set that has another hash is told: "NAME (what of it)".
std::string change_of(const StoredDataset& before, const StoredDataset& after,
                      const std::vector<std::string>& changed_files) {
  if (!changed_files.empty())
    return fmt::format("{} ({})", after.name, fmt::join(changed_files, ", "));
  if (before.files.empty() || after.files.empty()) return after.name;  // they were not told
  if (before.files.size() != after.files.size())
    return fmt::format("{} ({} files, now {})", after.name, before.files.size(),
                       after.files.size());
  return after.name + " (its system text)";
}

std::vector<std::string> changed_datasets(const std::vector<StoredDataset>& before,
                                          const std::vector<StoredDataset>& after,
                                          const std::vector<std::string>& paths) {
  std::vector<std::vector<std::string>> files(after.size());
  visit_files(
      before, after, paths,
      [&](size_t d, const std::string& was, const std::string& is, const std::string& path) {
        if (hash_in(was) != hash_in(is)) files[d].push_back(path);
      });
  std::vector<std::string> changed;
  for (size_t d = 0; d < after.size(); ++d)
    if (before[d].hash != after[d].hash)
      changed.push_back(change_of(before[d], after[d], files[d]));
  return changed;
}

// Where the choice of data sets stands, for messages.
std::string source_of(const RunState& run) {
  const OptionTexts options = option_texts(run.options);
  const auto config = options.find("data_config");
  return config == options.end() || config->second.empty()
             ? ""
             : fmt::format(" (--data_config {})", config->second);
}

}  // namespace

DataIdentity identify_data(const Options& options, const DataSetup& data) {
  if (data.table == nullptr) return {file_fingerprint(options.replay), {}};
  DataIdentity identity{hash_of_data(options, data), {}};
  for (size_t d = 0; d < data.names.size(); ++d) {
    identity.fingerprint +=
        fmt::format(" {}={:016x}", data.names[d], data.datasets[d]->fingerprint());
    const std::vector<SourceFile> files = data.datasets[d]->files();
    std::string texts;
    for (const SourceFile& file : files) texts += "," + text_of(file);
    if (identity.fingerprint.size() + texts.size() > kMostBytes) continue;
    identity.fingerprint += texts;
    for (const SourceFile& file : files) identity.files.push_back(file.path);
  }
  return identity;
}

size_t datasets_named_in(const std::string& fingerprint) {
  return stored_datasets(fingerprint).size();
}

std::string data_differences(const RunState& stored, const RunState& now) {
  const std::string &first = stored.data_fingerprint, &second = now.data_fingerprint;
  if (deciding_hash(first) == deciding_hash(second)) return "";
  const auto before = stored_datasets(first), after = stored_datasets(second);
  const bool are_told = !before.empty() && !after.empty();  // not by old checkpoints
  if (are_told && names_of(before) != names_of(after))
    return fmt::format("\n  the data sets were:{}; they are:{}{}", names_of(before),
                       names_of(after), source_of(now));
  if (are_told)
    if (const auto changed = changed_datasets(before, after, now.data_files); !changed.empty())
      return fmt::format("\n  these data sets have changed: {}{}", fmt::join(changed, ", "),
                         source_of(now));
  return "\n  the data differ: annotations, choice of samples, prompt texts or tokenizer" +
         source_of(now);
}

std::vector<std::string> touched_files(const RunState& stored, const RunState& now) {
  const auto before = stored_datasets(stored.data_fingerprint);
  const auto after = stored_datasets(now.data_fingerprint);
  std::vector<std::string> touched;
  if (names_of(before) != names_of(after)) return touched;
  visit_files(before, after, now.data_files,
              [&](size_t, const std::string& was, const std::string& is, const std::string& path) {
                if (was != is && hash_in(was) == hash_in(is)) touched.push_back(path);
              });
  return touched;
}

}  // namespace facet
