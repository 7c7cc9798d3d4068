#include "data/dataset_choice.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "data/brace_expansion.h"
#include "data/dataset.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

bool is_safe(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
}

std::string safe_name(const std::string& path) {
  std::string name = fs::path(without_braces(path)).stem().string();
  while (name.ends_with('-') || name.ends_with('_')) name.pop_back();
  for (char& c : name)
    if (!is_safe(c)) c = '_';
  return name.empty() ? "own" : name;
}

std::string unique_name(const std::string& wanted, const std::set<std::string>& taken) {
  std::string name = wanted;
  for (int n = 2; taken.contains(name); ++n) name = fmt::format("{}_{}", wanted, n);
  return name;
}

// The same whatever links and ".." lead to the file.
std::string true_path(const std::string& path) {
  std::error_code ignored;
  const fs::path found = fs::weakly_canonical(path, ignored);
  return found.empty() ? path : found.string();
}

void expand_paths(std::vector<DatasetChoice>& choices, const std::string& source) {
  std::set<std::string> there;
  for (DatasetChoice& choice : choices) {
    std::vector<std::string> files;
    for (const std::string& path : choice.paths)
      for (std::string& file : choice.type == "tar" ? expand_braces(path) : std::vector{path})
        files.push_back(std::move(file));
    for (const std::string& file : files)
      CHECK(there.insert(true_path(file)).second, ExitCode::kConfig,
            "{} has the file {} twice: evaluation samples would be trained on", source, file);
    choice.paths = std::move(files);
  }
}

}  // namespace

std::string_view own_kind_of(std::string_view word) {
  for (const std::string& kind : own_dataset_kinds())
    if (word.size() > kind.size() && word.starts_with(kind) && word[kind.size()] == ':')
      return word.substr(0, kind.size());
  return "";
}

std::vector<DatasetChoice> choose_datasets(const std::vector<std::string>& words) {
  std::vector<DatasetChoice> choices;
  for (const std::string& word : words) {
    const std::string kind(own_kind_of(word));
    if (kind.empty()) {
      choices.push_back({word, word});
      continue;
    }
    const std::string path = word.substr(kind.size() + 1);
    CHECK(!path.empty(), ExitCode::kUsage, "--dataset_names {}: a path belongs behind it", word);
    choices.push_back({"", kind, {path}});
  }
  name_datasets(choices, "--dataset_names");
  return choices;
}

void name_datasets(std::vector<DatasetChoice>& choices, const std::string& source) {
  std::set<std::string> given, taken(dataset_names().begin(), dataset_names().end());
  for (const DatasetChoice& choice : choices) {
    CHECK(std::all_of(choice.name.begin(), choice.name.end(), is_safe), ExitCode::kConfig,
          "{}: the name {} has other characters than letters, digits, '_', '-' and '.'", source,
          choice.name);
    const bool is_new =
        choice.type == choice.name || choice.name.empty() || !taken.contains(choice.name);
    CHECK(is_new && (choice.name.empty() || given.insert(choice.name).second), ExitCode::kConfig,
          "{}: the name {} is given twice, or to own files although a published data set has it",
          source, choice.name);
  }
  taken.merge(given);
  for (DatasetChoice& choice : choices)
    if (choice.name.empty()) {
      choice.name = unique_name(safe_name(choice.paths[0]), taken);
      taken.insert(choice.name);
    }
  expand_paths(choices, source);
}

}  // namespace facet
