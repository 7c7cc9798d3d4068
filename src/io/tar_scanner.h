// The members of a tar archive, one header after the other and without their contents in memory:
// POSIX ustar and pax (IEEE Std 1003.1), old tar and GNU's long names. Reads headers only, so an
// archive of any size is gone through quickly. Names are text: nothing is unpacked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/input_file.h"

namespace facet {

struct TarMember {
  std::string name;  // as written, with any directories
  int64_t offset = 0, bytes = 0;
};

class TarScanner {
 public:
  static constexpr int64_t kBlock = 512;
  // A longer name, or more of pax's extra fields, is refused.
  static constexpr int64_t kMaxExtraBytes = int64_t{1} << 20;

  // The file must outlive the scanner.
  explicit TarScanner(const InputFile& file) : file_(file) {}

  // The next regular file; nothing after the last. A wrong checksum, a number that is none, a
  // member beyond the end of the file, an archive without its end, sparse members: Error(kBadData)
  // with the place.
  std::optional<TarMember> next();

 private:
  struct Header;
  // What extra headers say of the next member.
  struct Extra {
    std::string name;
    int64_t bytes = -1;
  };

  bool read_header(Header& header);
  int64_t size_of(const Header& header) const;
  std::string content(int64_t bytes) const;
  void take_pax(const std::string& fields, Extra& extra) const;
  void skip(int64_t bytes);
  [[noreturn]] void refuse(const std::string& reason) const;

  const InputFile& file_;
  int64_t at_ = 0;  // of the header, then of the content
  std::string last_name_;
};

}  // namespace facet
