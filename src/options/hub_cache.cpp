#include "options/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/printable.h"
#include "io/file.h"

namespace facet {

namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestName = 96;  // the hub's own limit
constexpr int64_t kMaxRefBytes = 256;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool is_name_of_variable(unsigned char c) { return std::isalnum(c) != 0 || c == '_'; }

// With ~ and $NAME or ${NAME} replaced, as Python's expanduser() and expandvars() do: what a job
// script exports may hold them as they were written. A variable that is not set stays.
std::string expanded(std::string path) {
  if (path == "~" || path.starts_with("~/")) path.replace(0, 1, variable("HOME"));
  for (size_t at = 0; (at = path.find('$', at)) != path.npos;) {
    const bool braces = path.substr(at + 1, 1) == "{";
    const size_t begin = at + (braces ? 2 : 1);
    size_t end = begin;
    while (end < path.size() && is_name_of_variable(static_cast<unsigned char>(path[end]))) ++end;
    const std::string name = path.substr(begin, end - begin);
    if (braces && path.substr(end, 1) == "}") ++end;
    const bool closed = !braces || path[end - 1] == '}';
    const char* const value = closed && !name.empty() ? std::getenv(name.c_str()) : nullptr;
    if (value != nullptr) path.replace(at, end - at, value);
    at = value != nullptr ? at + std::string_view(value).size() : end;
  }
  return path;
}

// Letters, digits, '-', '_' and '.'; neither "." nor "..", nor hidden.
bool is_part_of_name(std::string_view part) {
  const auto allowed = [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  };
  return !part.empty() && part[0] != '.' && std::all_of(part.begin(), part.end(), allowed);
}

bool is_name(std::string_view name) {
  const size_t slash = name.find('/');
  if (name.size() > kLongestName) return false;
  if (slash == std::string_view::npos) return is_part_of_name(name);
  return is_part_of_name(name.substr(0, slash)) && is_part_of_name(name.substr(slash + 1));
}

std::string directory_name(std::string name) {
  if (const size_t slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "--");
  return "models--" + name;
}

// What was fetched by a commit's name alone.
std::string other_snapshots(const std::string& model) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(model + "/snapshots", ignored))
    found.push_back(printable(entry.path().string()));
  if (found.empty()) return "";
  std::sort(found.begin(), found.end());
  return fmt::format("; of other revisions there are {}: give one of these",
                     fmt::join(found, ", "));
}

// The commit that refs/main names: what a snapshot is called. Error if it can't be read or names
// none.
std::string main_commit(const std::string& model) {
  const std::string ref = model + "/refs/main";
  std::error_code ignored;
  CHECK(fs::exists(ref, ignored), ExitCode::kMissingInput, "there is no {}{}", ref,
        other_snapshots(model));
  std::string commit = read_file(ref, kMaxRefBytes);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
  CHECK(is_part_of_name(commit), ExitCode::kBadData, "{} holds \"{}\" and not a commit", ref,
        printable(commit));
  return commit;
}

std::string how_to_fetch(const std::string& name) {
  return fmt::format(
      "fetch it where there is a network, with the same HF_HOME and HF_HUB_CACHE: hf download {} "
      "(before huggingface_hub 0.34: huggingface-cli download {})",
      name, name);
}

std::string snapshot_of(const std::string& name) {
  const std::string cache = hub_cache_directory();
  const std::string model = cache + "/" + directory_name(name);
  std::error_code ignored;
  CHECK(fs::is_directory(model, ignored), ExitCode::kMissingInput, "the cache {} has no {}", cache,
        directory_name(name));
  const std::string snapshot = model + "/snapshots/" + main_commit(model);
  CHECK(fs::is_directory(snapshot, ignored), ExitCode::kMissingInput,
        "{} is named by refs/main, but it is not there{}", snapshot, other_snapshots(model));
  return snapshot;
}

}  // namespace

std::string hub_cache_directory() {
  for (const auto& [name, below] :
       {std::pair{"HF_HUB_CACHE", ""}, std::pair{"HUGGINGFACE_HUB_CACHE", ""},
        std::pair{"HF_HOME", "/hub"}, std::pair{"XDG_CACHE_HOME", "/huggingface/hub"}})
    if (const std::string value = variable(name); !value.empty()) return expanded(value) + below;
  return variable("HOME") + "/.cache/huggingface/hub";
}

std::optional<HubLookup> look_up_in_hub_cache(const std::string& name) {
  if (!is_name(name)) return std::nullopt;
  try {
    return HubLookup{snapshot_of(name), ""};
  } catch (const Error& error) {
    return HubLookup{"", fmt::format("{}; {}", error.what(), how_to_fetch(name))};
  }
}

}  // namespace facet
