// Byte-pair encoding of one word: the pairs of neighbours that have a merge are joined, the merge
// with the lowest rank first and of equal ones the leftmost, until no pair has one (Sennrich et
// al., "Neural machine translation of rare words with subword units", 2016; the order of the
// tokenizers library's BPE model).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace facet {

class Bpe {
 public:
  struct Settings {
    std::vector<std::string> tokens;                // by id, no two alike
    std::vector<std::array<int32_t, 3>> merges;     // left, right, both as one; by rank
    std::optional<std::array<int32_t, 256>> bytes;  // for characters without a token
    std::optional<int32_t> unknown;                 // for these where there are no bytes
    bool fuses_unknown = false;                     // neighbours become one unknown token
    bool ignores_merges = false;                    // a word that is a token is that token
  };
  explicit Bpe(Settings settings);

  // Appends the ids of a word in UTF-8. Takes O(n log n).
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

  bool knows_bytes() const { return settings_.bytes.has_value(); }
  int64_t size() const { return static_cast<int64_t>(settings_.tokens.size()); }
  const std::string& text_of(int32_t id) const { return settings_.tokens.at(id); }
  std::optional<int32_t> find(std::string_view text) const;

 private:
  struct Merge {
    int32_t rank = 0, joined = 0;
  };
  const Merge* merge_of(int32_t left, int32_t right) const;
  std::vector<int32_t> characters_of(std::string_view word) const;
  std::vector<int32_t> merged(const std::vector<int32_t>& ids) const;

  Settings settings_;
  std::unordered_map<std::string_view, int32_t> by_text_;
  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace facet
