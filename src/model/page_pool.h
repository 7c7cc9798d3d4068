// The pages of a key/value cache that several sequences share (Kwon et al., "Efficient Memory
// Management for Large Language Model Serving with PagedAttention", 2023): which are free, how many
// sequences read each, and what is written on those that another sequence may want to read too.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace facet {

// What rows of a cache depend on, in 128 bits: two that differ in anything have different keys, but
// for a chance of 2^-128 a pair.
struct PageKey {
  uint64_t high = 0, low = 0;

  // Goes on to a longer content.
  void add(uint64_t value);
  void add(const PageKey& key) {
    add(key.high);
    add(key.low);
  }
  auto operator<=>(const PageKey&) const = default;
};

class PagePool {
 public:
  static constexpr int64_t kRows = 32;  // of a page

  explicit PagePool(int64_t pages);

  static int64_t pages_for(int64_t rows) { return (rows + kRows - 1) / kRows; }
  int64_t num_pages() const { return static_cast<int64_t>(users_.size()); }
  int64_t num_free() const { return free_; }

  // Appends `count` free pages to `pages`, as few runs of adjacent ones as a greedy choice finds.
  // What was written on them is forgotten. More than are free is a bug of the caller.
  void take(int64_t count, std::vector<int32_t>& pages);
  // One user less; without users a page is free, and can be found until it is taken.
  void release(int32_t page);

  // From now on the page is found by the key, unless another one is.
  void write(int32_t page, const PageKey& key);
  // A page with that content, with one more user.
  std::optional<int32_t> share(const PageKey& key);

 private:
  struct Run {
    int64_t first = 0, count = 0;
  };
  // The shortest of the runs of free pages that are long enough, or the longest.
  Run best_run(int64_t count) const;
  void forget(int32_t page);

  std::vector<int32_t> users_;                   // of each page
  std::vector<std::optional<PageKey>> written_;  // of each page that can be found
  std::map<PageKey, int32_t> found_;
  int64_t free_ = 0;
};

}  // namespace facet
