// Where each image lies in a JSON file of many, {id: base64 text, ...}: made once by reading the
// whole file, then kept as a file of its own, which all processes of a host map and share.
//
// The file: a header (size and time of the JSON file, number of images, hashes), one entry of 32
// bytes for each image in the order of the ids, then the ids one after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/input_file.h"

namespace facet {

class ImageIndex {
 public:
  enum class Kind : uint32_t { kText, kNoText, kTwice };  // kTwice: the id is not unique

  struct Entry {
    uint64_t id_begin = 0;  // in the ids
    uint32_t id_bytes = 0;
    Kind kind = Kind::kText;
    int64_t offset = 0;  // of the text in the JSON file
    int64_t bytes = 0;
  };

  // The index of `json` in the directory or else beside the file, if it is there and made from the
  // file as it is now; else a new one in memory. Error(kBadData) if the file is not one JSON
  // object.
  ImageIndex(const InputFile& json, const std::string& directory);
  // Writes it into the directory unless it is there or beside the file. kIo if it cannot be
  // written.
  static void keep(const InputFile& json, const std::string& directory);

  std::optional<Entry> find(std::string_view id) const;
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  bool is_mapped() const { return mapped_.has_value(); }
  // Of all ids.
  uint64_t hash_of_ids() const;

 private:
  bool map(const InputFile& json, const std::string& directory);
  std::string_view id_of(const Entry& entry) const;

  std::optional<MappedFile> mapped_;
  std::string built_;               // without a file: its content
  std::span<const Entry> entries_;  // in one of the two
  std::string_view ids_;
};

}  // namespace facet
