// Whole files: reading a file into memory, and replacing one atomically, so that a reader sees
// either the old file or the complete new one.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"

namespace facet {

// Files are written in pieces of at most this size: larger writes at aligned offsets are several
// times slower on some machines.
constexpr int64_t kWritePieceBytes = int64_t{1} << 20;

// The content of a file (io/input_file.h). Larger than max_bytes: kBadData.
std::string read_file(const std::string& path, int64_t max_bytes,
                      ExitCode unreadable = ExitCode::kMissingInput);

// Adds a line or a few to a file, which is created if need be. kIo.
void append_to_file(const std::string& path, std::string_view text);

// Flushes a file to the disk. kIo.
void sync_file(const std::string& path);

// Creates a directory and its parents; kIo with the reason if that fails.
void make_directories(const std::string& path);

// Renames the finished directory `from` to `to`, replacing what is there. kIo. If the file system
// can exchange two names, a crash leaves the old one or the new one, never none.
void publish_directory(const std::string& from, const std::string& to);

// Calls `create` with the name for the unfinished file or directory, NAME.partial-PID; with
// NAME.partial-PID-1 and so on while it returns false with errno EEXIST: what is there may be
// anybody's. Returns whether it was created at last.
bool at_partial_name(const std::string& path,
                     const std::function<bool(const std::string&)>& create);

// Creates the directory NAME.partial-PID, in which NAME is written; returns its name. kIo.
std::string make_partial_directory(const std::string& path);

// Cleans up a directory in which a process was killed; no other process may be writing there. A
// `NAME.replaced-PID` of publish_directory() is renamed back if NAME does not exist; then any
// remaining NAME.partial-PID, NAME.replaced-PID and NAME.removed-PID are removed. kIo if renaming
// fails.
//
// Only for the NAMEs of `own`, in which # stands for a digit, the last # for one or more: "latest",
// "epoch-#/" (a directory), "step_########/". Everything else belongs to somebody else.
void tidy_directory(const std::string& directory, std::span<const std::string_view> own);

// The directory that holds it; "." for a plain name.
std::string directory_of(const std::string& path);

// Makes renames in a directory durable. Some file systems cannot; that is not an error.
void sync_directory(const std::string& directory);

// Bytes that an unprivileged process can still write to the file system of `path`. kIo.
int64_t free_bytes(const std::string& path);

// A file written under a new temporary name in the same directory and renamed by commit(). Without
// commit the destructor removes it. Every failure is kIo and names the path, the bytes and the
// reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Reserves disk space for the whole file, so that a full disk is noticed before the work is done.
  void reserve(int64_t bytes);
  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  // Flushes to disk and renames the file.
  void commit();

 private:
  [[noreturn]] void fail_errno(const char* action, int64_t bytes) const;

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  int64_t written_ = 0;
};

// AtomicFile in one call.
void write_file(const std::string& path, std::string_view text);

}  // namespace facet
