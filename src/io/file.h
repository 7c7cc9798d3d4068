// Whole files: reading one into memory, and writing one so that a reader sees either the old file
// or the complete new one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"

namespace facet {

// Files are written in pieces of at most this size: larger writes at aligned offsets are several
// times slower on some machines.
constexpr int64_t kWritePieceBytes = int64_t{1} << 20;

// The content of a file. Not there or unreadable: kMissingInput. Larger than max_bytes: kBadData.
std::string read_file(const std::string& path, int64_t max_bytes);

// Makes a directory and its parents; kIo with the reason when that fails.
void make_directories(const std::string& path);

// Gives the finished directory `from` the place of `to`, whatever stood there. kIo. Where the file
// system can swap two names, a crash in between leaves the old one or the new one, never none.
void publish_directory(const std::string& from, const std::string& to);

// Puts a directory right in which a process was killed; nobody else may write there. A
// `NAME.replaced-PID` of publish_directory() gets its name back where nothing has it; then what is
// left of NAME.partial-PID, NAME.replaced-PID and NAME.removed-PID goes. kIo when a name can't be
// given back.
void tidy_directory(const std::string& directory);

// Makes names that were given in a directory durable. Some file systems can't; that is no error.
void sync_directory(const std::string& directory);

// Bytes an unprivileged process can still write where `path` lies. kIo.
int64_t free_bytes(const std::string& path);

// A file written under a temporary name beside its place and renamed by commit(). Without commit
// the destructor removes it. Every failure is kIo and names the path, the bytes and the reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Reserves the disk space of the whole file, so that a full disk is met before the work is done.
  void reserve(int64_t bytes);
  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), static_cast<int64_t>(text.size())); }
  // Flushes to the disk and gives the file its name.
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
