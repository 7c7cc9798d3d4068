#include "options/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>

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

std::string with_home(const std::string& path) {
  return path.starts_with("~/") ? variable("HOME") + path.substr(1) : path;
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

bool is_commit(std::string_view text) {
  const auto hexadecimal = [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  };
  return text.size() == 40 && std::all_of(text.begin(), text.end(), hexadecimal);
}

std::string directory_name(std::string name) {
  if (const size_t slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "--");
  return "models--" + name;
}

// The commit that refs/main names. Error if it can't be read or names none.
std::string main_commit(const std::string& ref) {
  std::string commit = read_file(ref, kMaxRefBytes);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
  CHECK(is_commit(commit), ExitCode::kBadData, "{} holds \"{}\" and not a commit", ref,
        printable(commit));
  return commit;
}

std::string how_to_fetch(const std::string& name) {
  return fmt::format(
      "fetch it where there is a network, with the same HF_HOME: huggingface-cli download {}",
      name);
}

std::string snapshot_of(const std::string& name) {
  const std::string cache = hub_cache_directory();
  const std::string model = cache + "/" + directory_name(name);
  std::error_code ignored;
  CHECK(fs::is_directory(model, ignored), ExitCode::kMissingInput, "the cache {} has no {}", cache,
        directory_name(name));
  const std::string snapshot = model + "/snapshots/" + main_commit(model + "/refs/main");
  CHECK(fs::is_directory(snapshot, ignored), ExitCode::kMissingInput,
        "{} is named by refs/main, but it is not there", snapshot);
  return snapshot;
}

}  // namespace

std::string hub_cache_directory() {
  for (const auto& [name, below] :
       {std::pair{"HF_HUB_CACHE", ""}, std::pair{"HUGGINGFACE_HUB_CACHE", ""},
        std::pair{"HF_HOME", "/hub"}, std::pair{"XDG_CACHE_HOME", "/huggingface/hub"}})
    if (const std::string value = variable(name); !value.empty()) return with_home(value) + below;
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
