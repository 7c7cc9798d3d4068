// Where the members of each sample lie in tar shards (WebDataset): a kept index
// (data/kept_index.h) with one entry of 64 bytes for each sample in the order of the shards, then
// their keys one after the other.
//
// A member KEY.EXTENSION belongs to the sample KEY, which ends at the first dot behind the last
// slash; members of a sample stand one after another. Extensions: jpg, jpeg, png, webp; json; txt.
// Others, and names that begin with a dot, are none of a sample.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/kept_index.h"

namespace facet {

class TarIndex {
 public:
  struct Part {
    static constexpr int64_t kNone = -1, kTwice = -2;

    int64_t offset = 0;
    int64_t bytes = kNone;
  };
  struct Entry {
    uint32_t shard = 0, key_bytes = 0;
    uint64_t key_begin = 0;
    Part image, json, caption;
  };

  // Opens every shard: one that is missing, or no sound archive, is an error with its path.
  TarIndex(const std::vector<std::string>& shards, const std::string& directory,
           const std::string& name);
  static void keep(const std::vector<std::string>& shards, const std::string& directory,
                   const std::string& name);

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  bool is_mapped() const { return kept_.is_mapped(); }
  const Entry& at(int64_t sample) const { return entries_[static_cast<size_t>(sample)]; }
  std::string_view key_of(const Entry& entry) const;
  // XXH3 of entries and keys.
  uint64_t hash() const;
  // (shards) the same of each shard's own, wherever their keys lie in the index.
  std::vector<uint64_t> hashes_of_shards(size_t shards) const;

 private:
  KeptIndex kept_;
  std::span<const Entry> entries_;  // in it
};

}  // namespace facet
