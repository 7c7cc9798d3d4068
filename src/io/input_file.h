// The one place where files of the outside world are opened for reading (scripts/check_gates.sh).
// Only regular files are: a FIFO, a socket or a device would block the reader for ever or never
// end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "io/hash.h"

namespace facet {

class InputFile {
 public:
  // Not there, or not a regular file: kMissingInput. The process has too many files open: kSystem.
  // `unreadable`: the code of any other reason (permissions, the disk).
  explicit InputFile(std::string path, ExitCode unreadable = ExitCode::kMissingInput);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  const std::string& path() const { return path_; }
  int64_t bytes() const { return bytes_; }        // when it was opened
  int64_t modified() const { return modified_; }  // then; ns since 1970
  // A file that ends before is kBadData; a read error has the constructor's `unreadable`.
  void read_at(int64_t offset, void* data, int64_t bytes) const;
  // Feeds a range of the file to the hasher.
  void hash_into(Hasher& hasher, int64_t offset, int64_t bytes) const;
  // Drops flushed data from the page cache, if the system can, so that the next read comes from
  // disk.
  void drop_from_cache() const;

 private:
  friend class MappedFile;
  void open();

  std::string path_;
  ExitCode unreadable_;
  int fd_ = -1;
  int64_t bytes_ = 0;
  int64_t modified_ = 0;
};

// A file as memory that all processes of a host share. For files that nobody shortens: reading
// beyond a new end would kill the process.
class MappedFile {
 public:
  // kIo if the system refuses.
  explicit MappedFile(const InputFile& file);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

}  // namespace facet
