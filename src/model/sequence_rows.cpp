#include "model/sequence_rows.h"

#include <algorithm>
#include <atomic>

namespace facet {
namespace {

// Equal for equal names, but for the empty one.
PageKey key_of_image(const std::string& name) {
  static std::atomic<uint64_t> unnamed{0};
  PageKey key;
  key.add(name.empty() ? ++unnamed : 0);
  for (const char c : name) key.add(static_cast<uint64_t>(static_cast<unsigned char>(c)));
  return key;
}

// Of each position, what it and all positions before it are.
std::vector<PageKey> prefix_keys(const SequenceRows& rows, int64_t image_tokens,
                                 std::span<const std::string> images) {
  std::vector<PageKey> image_keys;
  for (int64_t i = 0; i < rows.num_images; ++i)
    image_keys.push_back(
        key_of_image(images.empty() ? std::string() : images[static_cast<size_t>(i)]));
  std::vector<PageKey> keys(rows.source.size());
  for (size_t row = 0; row < rows.source.size(); ++row) {
    PageKey& key = keys[static_cast<size_t>(rows.positions[row])];
    key.add(static_cast<uint64_t>(rows.kinds[row]));
    if (const int32_t source = rows.source[row]; source >= 0) {
      key.add(static_cast<uint64_t>(source));
    } else {
      key.add(image_keys[static_cast<size_t>((-1 - source) / image_tokens)]);
      key.add(static_cast<uint64_t>((-1 - source) % image_tokens));
    }
  }
  for (size_t position = 1; position < keys.size(); ++position)
    keys[position].add(keys[position - 1]);
  return keys;
}

}  // namespace

std::vector<PageKey> page_keys(const SequenceRows& rows, int64_t image_tokens,
                               std::span<const std::string> images) {
  const std::vector<PageKey> prefixes = prefix_keys(rows, image_tokens, images);
  std::vector<PageKey> keys(static_cast<size_t>(PagePool::pages_for(rows.length())));
  for (size_t row = 0; row < prefixes.size(); ++row)
    keys[row / PagePool::kRows].add(prefixes[static_cast<size_t>(rows.positions[row])]);
  return keys;
}

void SequenceRows::open(int64_t the_max_tokens) {
  is_open = true;
  max_tokens = the_max_tokens;
  last_row = -1;
  num_run = never_forgotten = num_images = 0;
  asks_again = false;
  pages.clear();
  places.clear();
  kinds.clear();
  kinds.reserve(static_cast<size_t>(max_tokens));
  positions.clear();
  positions.reserve(static_cast<size_t>(max_tokens));
  source.clear();
  pixels.clear();
  written.clear();
}

void SequenceRows::lay_on_pages() {
  constexpr auto kRows = static_cast<int32_t>(PagePool::kRows);
  places.clear();
  for (const int32_t page : pages) {
    if (places.empty() || places.back().end() != page * kRows) places.push_back({page * kRows, 0});
    places.back().count += kRows;
  }
}

void SequenceRows::append(const SplicedBatch& spliced) {
  const auto begin = static_cast<int32_t>(length());
  kinds.insert(kinds.end(), spliced.kinds.begin(), spliced.kinds.end());
  for (const int32_t position : spliced.positions) positions.push_back(begin + position);
  last_row = std::max_element(positions.begin() + begin, positions.end()) - positions.begin();
}

void SequenceRows::append_text(int32_t token) {
  last_row = length();
  kinds.push_back(TokenKind::kText);
  positions.push_back(static_cast<int32_t>(last_row));
  source.push_back(token);
}

void SequenceRows::forget(int64_t length) {
  kinds.resize(static_cast<size_t>(length));
  positions.resize(static_cast<size_t>(length));
  num_run = length;
  last_row = std::max_element(positions.begin(), positions.end()) - positions.begin();
}

}  // namespace facet
