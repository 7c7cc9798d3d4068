#include "target.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/check.h"
#include "base/log.h"
#include "io/file.h"

// HDF5 loses some memory of its own whenever it refuses a file.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5\n"; }

namespace facet::fuzz {

namespace {

// Makes the directory, and silences warnings, which would be most of what a fuzzer does.
struct Scratch {
  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "facet-fuzz-XXXXXX").string();
    require(::mkdtemp(pattern.data()) != nullptr, pattern + " can't be made");
    path = pattern;
    set_log_rank(1);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

std::map<std::string, Target>& targets() {
  static std::map<std::string, Target> table;
  return table;
}

std::string chosen;   // the target whose files scratch() holds
std::string refusal;  // of the last reader

}  // namespace

int may_refuse(const std::function<void()>& reader) {
  scratch();
  try {
    reader();
    refusal.clear();
  } catch (const Error& error) {
    require(error.code() != ExitCode::kInternal, error.what());
    refusal = error.what();
  }
  return 0;
}

const std::string& last_refusal() { return refusal; }

void require(bool condition, const std::string& message) {
  if (condition) return;
  std::fprintf(stderr, "FINDING: %s\n", message.c_str());
  std::abort();
}

std::string scratch() {
  static const Scratch directory;
  return directory.path + chosen;
}

std::string put(const std::string& name, std::string_view content) {
  std::string path = scratch() + "/" + name;
  const auto write = [&] {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    return file.good();
  };
  if (!write()) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    require(write(), path + " can't be written");
  }
  return path;
}

std::string fixture(const std::string& path) { return read_file(path, int64_t{1} << 24); }

bool add_target(const char* name, Target target) { return targets().emplace(name, target).second; }

Target choose_target(const std::string& name) {
  const auto found = targets().find(name);
  if (found == targets().end()) return nullptr;
  chosen = "/" + name;
  std::filesystem::create_directories(scratch());
  return found->second;
}

}  // namespace facet::fuzz
