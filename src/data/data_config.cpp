#include "data/data_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "base/check.h"
#include "data/dataset.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 8> kMembers = {
    "type", "name", "paths", "image_root", "samples", "concatenate", "weight", "system"};

bool is_among(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

void check_members(const JsonValue& entry) {
  if (!entry.is_object()) entry.reject("expected an object, a data set");
  for (int64_t m = 0; m < entry.size(); ++m)
    if (const auto key = entry.member(m).first;
        std::find(kMembers.begin(), kMembers.end(), key) == kMembers.end())
      entry.reject(fmt::format("{} is none of {}", key.substr(0, 40), fmt::join(kMembers, ", ")));
}

std::string below(const fs::path& directory, std::string_view path) {
  return fs::path(path).is_absolute() ? std::string(path)
                                      : (directory / std::string(path)).string();
}

std::vector<std::string> paths_of(const JsonValue& entry, const fs::path& directory) {
  const JsonValue paths = entry.at("paths");
  if (paths.is_string()) return {below(directory, paths.as_string())};
  if (!paths.is_array() || paths.size() == 0) paths.reject("expected a path or a list of paths");
  std::vector<std::string> list;
  for (const JsonValue path : paths) list.push_back(below(directory, path.as_string()));
  return list;
}

// A number from `least` on.
int64_t count_of(const JsonValue& value, int64_t least) {
  if (value.as_int() < least) value.reject(fmt::format("expected a number from {} on", least));
  return value.as_int();
}

void read_own_files(const JsonValue& entry, const fs::path& directory, DatasetChoice& choice) {
  choice.paths = paths_of(entry, directory);
  choice.name = entry.get_string("name", "");
  if (const auto root = entry.find("image_root"))
    choice.image_root = below(directory, root->as_string());
}

DatasetChoice read_entry(const JsonValue& entry, const fs::path& directory) {
  check_members(entry);
  DatasetChoice choice;
  choice.type = entry.at("type").as_string();
  if (is_among(own_dataset_kinds(), choice.type)) {
    read_own_files(entry, directory, choice);
  } else {
    if (!is_among(dataset_names(), choice.type))
      entry.at("type").reject(fmt::format("{} is none of {}, {}", choice.type.substr(0, 40),
                                          fmt::join(own_dataset_kinds(), ", "),
                                          fmt::join(dataset_names(), ", ")));
    for (const char* member : {"name", "paths", "image_root"})
      if (entry.find(member)) entry.reject(fmt::format("{} is for own files", member));
    choice.name = choice.type;
  }
  if (const auto samples = entry.find("samples");
      samples && !(samples->is_string() && samples->as_string() == "all"))
    choice.samples = count_of(*samples, 1);
  if (const auto concatenate = entry.find("concatenate"))
    choice.concatenate = count_of(*concatenate, 1);
  if (const auto weight = entry.find("weight")) {
    choice.weight = weight->as_double();
    if (choice.weight <= 0) weight->reject("expected a number above 0");
  }
  if (const auto system = entry.find("system")) choice.system_text = system->as_string();
  return choice;
}

}  // namespace

std::vector<DatasetChoice> read_data_config(const std::string& path) {
  const JsonDocument document = JsonDocument::read_config(path);
  const JsonValue root = document.root();
  if (!root.is_array() || root.size() == 0) root.reject("expected a list of data sets");
  std::vector<DatasetChoice> choices;
  for (const JsonValue entry : root) choices.push_back(read_entry(entry, directory_of(path)));
  const auto weighted = std::count_if(choices.begin(), choices.end(),
                                      [](const DatasetChoice& c) { return c.weight > 0; });
  if (weighted != 0 && weighted != root.size())
    root.reject(fmt::format("{} of {} data sets have a weight; give all of them one, or none",
                            weighted, root.size()));
  name_datasets(choices, path);
  return choices;
}

}  // namespace facet
