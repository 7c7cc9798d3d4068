// The names of what is not finished, and what killed processes leave under such names.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "io/file.h"
#include "io/left_overs.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPartial = ".partial-", kRemoved = ".removed-", kReplaced = ".replaced-";
constexpr std::string_view kDigits = "0123456789";

// 4711 of "4711", or of "4711-2" where 4711 was taken; 0: it is neither.
int64_t process_of_mark(std::string_view mark) {
  const std::string_view number = mark.substr(0, mark.find('-'));
  const std::string_view attempt = mark.substr(std::min(mark.size(), number.size() + 1));
  const bool has_attempt = number.size() < mark.size();
  const bool is_mark = number.find_first_not_of(kDigits) == number.npos &&
                       attempt.find_first_not_of(kDigits) == attempt.npos &&
                       has_attempt == !attempt.empty();
  int64_t process = 0;
  if (is_mark) std::from_chars(number.data(), number.data() + number.size(), process);
  return process;
}

// Matches a name with a pattern in which each # stands for one digit, the last # for one or more.
bool matches(std::string_view name, std::string_view pattern) {
  const size_t last = pattern.rfind('#');
  if (last == pattern.npos) return name == pattern;
  const std::string_view end = pattern.substr(last + 1);
  if (name.size() < pattern.size() || !name.ends_with(end)) return false;
  for (size_t i = 0; i + end.size() < name.size(); ++i) {
    const char wanted = pattern[std::min(i, last)];
    const bool digit = name[i] >= '0' && name[i] <= '9';
    if (wanted == '#' ? !digit : name[i] != wanted) return false;
  }
  return true;
}

// Under that name. Links are neither files nor directories that this program made.
bool is_own(const fs::directory_entry& entry, const fs::path& name,
            std::span<const std::string_view> own) {
  std::error_code error;
  const fs::file_type type = entry.symlink_status(error).type();
  if (error || (type != fs::file_type::regular && type != fs::file_type::directory)) return false;
  const bool directory = type == fs::file_type::directory;
  const std::string text = name.filename().string() + (directory ? "/" : "");
  return std::any_of(own.begin(), own.end(),
                     [&](std::string_view pattern) { return matches(text, pattern); });
}

bool is_left_over(const fs::directory_entry& entry, std::span<const std::string_view> own,
                  LeftOver& left) {
  left.path = entry.path();
  left.name = fs::path(left.path).replace_extension();
  if (!is_own(entry, left.name, own)) return false;
  const std::string suffix = left.path.extension().string();
  left.was_replaced = suffix.starts_with(kReplaced);
  for (const std::string_view kind : {kPartial, kRemoved, kReplaced})
    if (suffix.starts_with(kind))
      left.process = process_of_mark(std::string_view(suffix).substr(kind.size()));
  return left.process > 0;
}

}  // namespace

bool is_own(const fs::directory_entry& entry, std::span<const std::string_view> own) {
  return is_own(entry, entry.path(), own);
}

std::vector<LeftOver> left_overs(const std::string& directory,
                                 std::span<const std::string_view> own) {
  std::error_code ignored;
  std::vector<LeftOver> all;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored))
    if (LeftOver left; is_left_over(entry, own, left)) all.push_back(left);
  return all;
}

bool at_partial_name(const std::string& path,
                     const std::function<bool(const std::string&)>& create) {
  constexpr int kAttempts = 100;
  const std::string first = fmt::format("{}{}{}", path, kPartial, ::getpid());
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (create(attempt == 0 ? first : fmt::format("{}-{}", first, attempt))) return true;
    if (errno != EEXIST) return false;
  }
  return false;
}

std::string make_partial_directory(const std::string& path) {
  make_directories(directory_of(path));
  std::string made;
  const bool fine = at_partial_name(path, [&](const std::string& name) {
    made = name;
    return ::mkdir(name.c_str(), 0777) == 0;
  });
  CHECK(fine, ExitCode::kIo, "{}: cannot create the directory: {}", made, std::strerror(errno));
  return made;
}

void publish_directory(const std::string& from, const std::string& to) {
  std::error_code error;
  const std::string old = fmt::format("{}{}{}", to, kReplaced, ::getpid());
  sync_directory(from);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    sync_directory(directory_of(to));
    fs::remove_all(from, error);
    return;
  }
  if (fs::exists(to, error)) fs::rename(to, old, error);
  if (!error) {
    fs::rename(from, to, error);
    std::error_code ignored;
    if (error) fs::rename(old, to, ignored);
  }
  CHECK(!error, ExitCode::kIo, "{}: cannot rename the finished directory to this: {}", to,
        error.message());
  sync_directory(directory_of(to));
  fs::remove_all(old, error);
}

void tidy_directory(const std::string& directory, std::span<const std::string_view> own) {
  std::error_code ignored;
  for (const auto& [path, name, process, was_replaced] : left_overs(directory, own)) {
    std::error_code error;
    if (was_replaced && !fs::exists(name, error) && !error) fs::rename(path, name, error);
    CHECK(!was_replaced || !error, ExitCode::kIo, "{}: cannot be renamed back to {}: {}",
          path.string(), name.string(), error.message());
    fs::remove_all(path, ignored);  // leftovers do no harm
  }
}

}  // namespace facet
