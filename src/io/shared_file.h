// A file that several processes write at places of their own: plain reads and writes at offsets.
#pragma once

#include <cstdint>
#include <string>

#include "base/check.h"
#include "io/hash.h"

namespace facet {

class SharedFile {
 public:
  static SharedFile open_for_reading(const std::string& path);  // kMissingInput, kIo
  static SharedFile create(const std::string& path);            // replaces an older file; kIo
  static SharedFile open_for_writing(const std::string& path);  // an existing file; kIo
  SharedFile(SharedFile&& other) noexcept;
  SharedFile& operator=(SharedFile&&) = delete;
  ~SharedFile();  // closes and is silent; call close() after writing to hear about errors

  const std::string& path() const { return path_; }
  int64_t size() const;
  // Reserves the disk space of the whole file, so that a full disk is met before the work is done.
  void reserve(int64_t bytes);
  // Flushes what has come together from time to time, so that no flush takes long.
  void write_at(int64_t offset, const void* data, int64_t bytes);
  // The file must hold all of it: kBadData otherwise. What can't be read is kIo.
  void read_at(int64_t offset, void* data, int64_t bytes) const;
  // Feeds a stretch of the file to the hasher.
  void hash_into(Hasher& hasher, int64_t offset, int64_t bytes) const;
  // What is flushed has to come from the disk when it is read next, where the system can do that.
  void drop_from_cache() const;
  // Flushes to the disk and closes.
  void close();

 private:
  SharedFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  [[noreturn]] void fail_errno(const char* action, int64_t offset, int64_t bytes) const;

  std::string path_;
  int fd_ = -1;
  int64_t unflushed_ = 0;
};

}  // namespace facet
