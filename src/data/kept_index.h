// An index of large files: made once by reading them whole, then kept as a file of its own, which
// all processes of a host map and share.
//
// The file: a header of 64 bytes (magic, size and time of the files, number of entries, bytes
// behind them, hash), the entries, and what belongs to them, such as their names.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.h"

namespace facet {

// What an index is of, and where it may lie.
struct IndexSubject {
  std::string_view magic;  // with the version of its form; at most 23 characters
  size_t entry_bytes = 0;
  std::string path;  // of the files, for messages
  int64_t bytes = 0, modified = 0;
  std::string directory;  // a run's own; "": none
  std::string name;       // of the index in it
  std::string beside;     // path of an index that serves all runs; "": none
};

struct IndexBody {
  uint64_t entries = 0;
  std::string bytes;  // the entries and what belongs to them
};

class KeptIndex {
 public:
  using Make = std::function<IndexBody()>;

  // The index in the directory or else beside the files, if it is there and made from the files as
  // they are now; else a new one in memory.
  KeptIndex(const IndexSubject& subject, const Make& make);
  // Writes it into the directory unless it is there or beside the files; one of other files, or of
  // these before they changed, is replaced with a warning. kIo if it cannot be written.
  static void keep(const IndexSubject& subject, const Make& make);

  bool is_mapped() const { return mapped_.has_value(); }
  uint64_t num_entries() const;
  // The entries, and what follows them.
  const void* entries() const;
  std::string_view rest() const;

 private:
  bool map(const IndexSubject& subject, const std::string& path);
  std::string_view bytes() const { return mapped_ ? mapped_->bytes() : std::string_view(built_); }

  size_t entry_bytes_;
  std::optional<MappedFile> mapped_;
  std::string built_;  // without a file: its content
};

}  // namespace facet
