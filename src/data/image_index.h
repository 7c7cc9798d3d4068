// Where each image lies in a JSON file of many, {id: base64 text, ...}: a kept index
// (data/kept_index.h) with one entry of 32 bytes for each image in the order of the ids, then the
// ids one after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "data/kept_index.h"
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
  bool is_mapped() const { return kept_.is_mapped(); }
  // Of all ids.
  uint64_t hash_of_ids() const;

 private:
  std::string_view id_of(const Entry& entry) const;

  KeptIndex kept_;
  std::span<const Entry> entries_;  // in it
  std::string_view ids_;
};

}  // namespace facet
