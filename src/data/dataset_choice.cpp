#include "data/dataset_choice.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "data/dataset.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

std::string safe_name(const std::string& path) {
  std::string name = fs::path(path).stem().string();
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-' && c != '.') c = '_';
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

}  // namespace

std::string_view own_kind_of(std::string_view word) {
  for (const std::string& kind : own_dataset_kinds())
    if (word.size() > kind.size() && word.starts_with(kind) && word[kind.size()] == ':')
      return word.substr(0, kind.size());
  return "";
}

std::vector<DatasetChoice> choose_datasets(const std::vector<std::string>& words) {
  std::vector<DatasetChoice> choices;
  std::set<std::string> taken(dataset_names().begin(), dataset_names().end()), paths;
  for (const std::string& word : words) {
    const std::string kind(own_kind_of(word));
    if (kind.empty()) {
      choices.push_back({word, word});
      continue;
    }
    const std::string path = word.substr(kind.size() + 1);
    CHECK(!path.empty(), ExitCode::kUsage, "--dataset_names {}: a path belongs behind it", word);
    CHECK(paths.insert(true_path(path)).second, ExitCode::kConfig,
          "--dataset_names has the file {} twice: evaluation samples would be trained on", path);
    const std::string name = unique_name(safe_name(path), taken);
    taken.insert(name);
    choices.push_back({name, kind, {path}});
  }
  return choices;
}

}  // namespace facet
