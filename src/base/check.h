// Errors. CHECK is for the outside world (files, options, data, libraries); ASSERT is for our own
// bugs. Both are always on, because a wrong number in a training run costs more than a branch.
//
// A message says what is wrong, where, and what to do next. The rank and the host are added where
// the error is reported (comm/mpi_session.h), once for the whole job.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace facet {

// The exit codes of the program; the numbers follow sysexits.h where it has one.
enum class ExitCode : int {
  kOk = 0,
  kUsage = 64,         // the command line cannot be used
  kBadData = 65,       // a file was read and its content is wrong
  kMissingInput = 66,  // a file or directory does not exist or cannot be read
  kInternal = 70,      // a bug in this program
  kSystem = 71,        // the system refuses a thread or an open file: a limit of it is reached
  kIo = 74,            // writing failed, the disk is full
  kConfig = 78,        // options contradict each other or the model files
  kSaved = 85,         // stopped on request after saving a checkpoint: run the same command again
  kHang = 86,          // a rank made no progress for longer than allowed
  kNumericStop = 87,   // too many non-finite steps
  kDeadRank = 88,      // another rank died
};

// "bad_data"
const char* name_of(ExitCode code);

// What every failure throws. Caught in main() and by collectively().
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

namespace detail {
[[noreturn]] void assert_failed(const char* condition, const char* file, int line,
                                const std::string& message);
}  // namespace detail

// Throws Error(code, formatted message).
template <typename... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace facet

// CHECK(condition, ExitCode::kBadData, "{}: header says {} bytes, the file has {}", path, a, b);
#define CHECK(condition, code, ...)                     \
  do {                                                  \
    if (!(condition)) ::facet::fail(code, __VA_ARGS__); \
  } while (false)

// ASSERT(condition, "rows {} do not match {}", a, b); a failure is ExitCode::kInternal with file
// and line.
#define ASSERT(condition, ...)                                                                  \
  do {                                                                                          \
    if (!(condition))                                                                           \
      ::facet::detail::assert_failed(#condition, __FILE__, __LINE__, fmt::format(__VA_ARGS__)); \
  } while (false)
