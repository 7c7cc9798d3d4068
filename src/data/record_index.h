// Where each record lies in a user's JSON file: a kept index (data/kept_index.h) of 16 bytes a
// record. Records are read from their places, so that a file may be larger than the memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/kept_index.h"
#include "io/input_file.h"
#include "io/json.h"

namespace facet {

class RecordIndex {
 public:
  static constexpr int64_t kMaxRecordBytes = int64_t{64} << 20;

  struct Entry {
    int64_t offset = 0;
    uint32_t bytes = 0;  // the largest number stands for all that are larger
    uint32_t line = 0;   // where it begins, from 1
  };

  // `name`: of the index in the directory.
  RecordIndex(const InputFile& file, const std::string& directory, const std::string& name);
  static void keep(const InputFile& file, const std::string& directory, const std::string& name);

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  bool is_mapped() const { return kept_.is_mapped(); }
  // "FILE, line 17".
  std::string name_of(const InputFile& file, int64_t record) const;
  // Thread-safe. What is not JSON, or too long: kBadData with its line.
  JsonDocument read(const InputFile& file, int64_t record) const;
  // XXH3 of the file's bytes.
  uint64_t hash_of_file() const;

 private:
  KeptIndex kept_;
  std::span<const Entry> entries_;  // in it
};

}  // namespace facet
