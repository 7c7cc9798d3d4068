#include "options/hub_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/printable.h"
#include "io/file.h"

namespace facet {

namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestName = 96;  // the hub's own limit
constexpr size_t kLongestRevision = 255;
constexpr size_t kCommitDigits = 40;
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

// What stands behind a name's '@': a commit, or a branch or a tag as git allows it to be called, in
// letters of ASCII. Several parts may be joined by slashes.
bool is_revision(std::string_view revision) {
  const auto refused = [](unsigned char c) {
    return c <= ' ' || c > '~' ||
           std::string_view("~^:?*[\\").find(static_cast<char>(c)) != std::string_view::npos;
  };
  return !revision.empty() && revision.size() <= kLongestRevision && revision[0] != '.' &&
         revision[0] != '/' && !revision.ends_with('/') &&
         revision.find("//") == std::string_view::npos &&
         revision.find("/.") == std::string_view::npos &&
         std::none_of(revision.begin(), revision.end(), refused);
}

bool is_commit(std::string_view revision) {
  return revision.size() == kCommitDigits &&
         revision.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// ORG/NAME and REVISION of a word; "main" unless it says another.
struct HubName {
  std::string model, revision = "main";

  std::string directory() const { return hub_cache_directory() + "/" + directory_name(model); }
};

std::optional<HubName> parse_name(const std::string& word) {
  HubName name{word};
  if (const size_t at = word.find('@'); at != std::string::npos)
    name = {word.substr(0, at), word.substr(at + 1)};
  if (!is_name(name.model) || !is_revision(name.revision)) return std::nullopt;
  return name;
}

// The commit that a file of refs holds: what a snapshot is called. Error if it can't be read or
// holds none.
std::string commit_in(const std::string& ref) {
  std::string commit = read_file(ref, kMaxRefBytes);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r')) commit.pop_back();
  CHECK(is_part_of_name(commit), ExitCode::kBadData, "{} holds \"{}\" and not a commit", ref,
        printable(commit));
  return commit;
}

// A commit that a file of refs holds and whose snapshot is there; "" otherwise.
std::string commit_behind(const fs::path& ref, const std::string& model) {
  std::error_code ignored;
  try {
    const std::string commit = commit_in(ref.string());
    return fs::is_directory(model + "/snapshots/" + commit, ignored) ? commit : "";
  } catch (const Error&) {
    return "";
  }
}

// The revisions whose snapshots are there, by their commits where they have no names.
std::vector<std::string> revisions_of(const std::string& model) {
  std::vector<std::string> found;
  std::set<std::string> named;
  std::error_code error;
  const fs::path refs = model + "/refs";
  for (fs::recursive_directory_iterator entry(refs, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_regular_file(ignored)) continue;
    const std::string commit = commit_behind(entry->path(), model);
    if (commit.empty()) continue;
    found.push_back(entry->path().lexically_relative(refs).string());
    named.insert(commit);
  }
  for (const auto& entry : fs::directory_iterator(model + "/snapshots", error))
    if (const std::string commit = entry.path().filename().string(); !named.contains(commit))
      found.push_back(commit);
  std::sort(found.begin(), found.end());
  return found;
}

// For the end of a message; "" if there is nothing.
std::string what_is_there(const HubName& name) {
  std::vector<std::string> names;
  for (const std::string& revision : revisions_of(name.directory()))
    names.push_back(fmt::format("{}@{}", name.model, printable(revision)));
  if (names.empty()) return "";
  return fmt::format("; in the cache there are {}: give one of these", fmt::join(names, ", "));
}

std::string commit_of(const HubName& name) {
  if (is_commit(name.revision)) return name.revision;
  const std::string ref = name.directory() + "/refs/" + name.revision;
  std::error_code ignored;
  CHECK(fs::is_regular_file(ref, ignored), ExitCode::kMissingInput, "there is no {}{}", ref,
        what_is_there(name));
  return commit_in(ref);
}

std::string how_to_fetch(const HubName& name) {
  const std::string words =
      name.revision == "main" ? name.model : name.model + " --revision " + name.revision;
  return fmt::format(
      "fetch it where there is a network, with the same HF_HOME and HF_HUB_CACHE: hf download {} "
      "(before huggingface_hub 0.34: huggingface-cli download {})",
      words, words);
}

std::string snapshot_of(const HubName& name) {
  std::error_code ignored;
  CHECK(fs::is_directory(name.directory(), ignored), ExitCode::kMissingInput,
        "the cache {} has no {}", hub_cache_directory(), directory_name(name.model));
  const std::string snapshot = name.directory() + "/snapshots/" + commit_of(name);
  CHECK(fs::is_directory(snapshot, ignored), ExitCode::kMissingInput,
        "{}, which is {}@{}, is not there{}", snapshot, name.model, name.revision,
        what_is_there(name));
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
  const std::optional<HubName> parsed = parse_name(name);
  if (!parsed) return std::nullopt;
  try {
    return HubLookup{snapshot_of(*parsed), ""};
  } catch (const Error& error) {
    return HubLookup{"", fmt::format("{}; {}", error.what(), how_to_fetch(*parsed))};
  }
}

}  // namespace facet
