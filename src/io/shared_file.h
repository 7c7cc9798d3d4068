// A file that several processes write, each at its own offsets: plain pwrite.
#pragma once

#include <cstdint>
#include <string>

#include "base/check.h"

namespace facet {

class SharedFile {
 public:
  static SharedFile create(const std::string& path);            // a new file; kIo
  static SharedFile open_for_writing(const std::string& path);  // an existing file; kIo
  SharedFile(SharedFile&& other) noexcept;
  SharedFile& operator=(SharedFile&&) = delete;
  ~SharedFile();  // closes and ignores errors; call close() after writing to get them

  const std::string& path() const { return path_; }
  int64_t size() const;
  // Reserves disk space for the whole file, so that a full disk is noticed before the work is done.
  void reserve(int64_t bytes);
  // Flushes from time to time, so that no flush takes long.
  void write_at(int64_t offset, const void* data, int64_t bytes);
  // Flushes to disk and closes.
  void close();

 private:
  SharedFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  [[noreturn]] void fail_errno(const char* action, int64_t offset, int64_t bytes) const;

  std::string path_;
  int fd_ = -1;
  int64_t unflushed_ = 0;
};

}  // namespace facet
