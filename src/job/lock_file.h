// The file run.lock of an output directory, as its own process and others on any host see it.
//
// It exists while a run holds the directory and contains one line about the holder. The holder
// keeps a file lock (flock) on it, which the system releases however the process dies, and renews
// the file's time: some file systems have no flock, on some it counts for one machine only, and
// none tells of a machine that is gone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace facet {

class LockFile {
 public:
  explicit LockFile(std::string path) : path_(std::move(path)) {}
  ~LockFile() { close(); }
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  const std::string& path() const { return path_; }

  // Opens the file, or creates it. Never follows a link, and takes regular files only. Error(kIo).
  enum class Opened : uint8_t { kThere, kCreated };
  Opened open();
  void close();

  // Who has the file lock? Tries to take it. kNobody: the file system has none.
  enum class FileLock : uint8_t { kThisProcess, kAnother, kNobody };
  FileLock lock();

  // What lies under the name now, opened anew, so that a network file system asks its server.
  struct Content {
    std::string text;      // at most 4 KiB; bytes that were allocated and never written left out
    int64_t changed = 0;   // ns since 1970
    bool is_ours = false;  // the file that is open here
  };
  std::optional<Content> look() const;  // nothing: there is none, or it cannot be read

  // Replaces the content and flushes it to the disk. Error(kIo).
  void write(const std::string& text);
  void renew() const;  // the time
  // Puts a file with this text there again, if there is none: somebody has removed it.
  void restore(const std::string& text);
  void remove();

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace facet
