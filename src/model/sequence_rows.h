// What the host knows of one sequence that is decoded: its rows, the pages they lie on, and what
// has been appended and not been run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/page_pool.h"
#include "model/splice.h"
#include "ops/attention_plan.h"

namespace facet {

struct SequenceRows {
  bool is_open = false;
  int64_t max_tokens = 0;
  std::vector<int32_t> pages;
  std::vector<RowRange> places;  // of its rows in the pool: runs of adjacent pages
  std::vector<TokenKind> kinds;
  std::vector<int32_t> positions;
  int64_t last_row = -1;        // that of the last position
  int64_t num_run = 0;          // rows whose keys and values are in the cache
  int64_t never_forgotten = 0;  // rows on pages that others may read
  std::vector<float> logits;    // (V) of the last position, if it has been run

  // To be run: where rows come from, as in SplicedBatch: the last ones, and before them perhaps the
  // last position's, whose keys and values are there already.
  std::vector<int32_t> source;
  bool asks_again = false;
  bool generated = false;     // they are tokens that the model has chosen
  std::vector<float> pixels;  // of the images that `source` names
  int64_t num_images = 0;
  int32_t image_size = 0;
  // What is on the first pages once they have been run, and how many rows are on the last of these.
  std::vector<PageKey> written;

  int64_t length() const { return static_cast<int64_t>(kinds.size()); }
  int64_t num_to_run() const { return static_cast<int64_t>(source.size()) - (asks_again ? 1 : 0); }
  bool waits() const { return !source.empty(); }

  void open(int64_t the_max_tokens);
  void lay_on_pages();  // `places` from `pages`
  // Of the rows spliced, which are one sample; they follow those so far.
  void append(const SplicedBatch& spliced);
  void append_text(int32_t token);
  void forget(int64_t length);
  // Calls body(row of the pool, the first one's place among them, count) for rows [first, + count).
  template <typename Body>
  void for_places(int64_t first, int64_t count, const Body& body) const {
    int64_t before = 0, done = 0;
    for (auto place = places.begin(); done < count; before += place++->count) {
      const int64_t skipped = first + done - before;
      if (skipped >= place->count) continue;
      const int64_t here = std::min(count - done, place->count - skipped);
      body(place->first + skipped, done, here);
      done += here;
    }
  }
};

// The keys of the pages that a sequence's first rows fill, the last of them perhaps not to its end.
// `images`: names of the images that `source` names; one without a name equals no other.
std::vector<PageKey> page_keys(const SequenceRows& rows, int64_t image_tokens,
                               std::span<const std::string> images);

}  // namespace facet
