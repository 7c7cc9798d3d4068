// What walks over all records of the data sets share: every rank works through its share, rank 0
// shows how far they are, and what is bad is gathered.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/bad_samples.h"

namespace facet {

// Of a rank so far.
struct WalkProgress {
  int64_t done = 0, bad = 0;
};

// Collective: has every rank go on for a second or so again and again until all items are done.
// Rank 0 shows "1200 of 50000 DONE_WORD, 3 bad, 0:00:40 left". What go_on throws, all throw.
void walk_to_the_end(Communicator& world, int64_t items, const std::string& done_word,
                     const std::function<WalkProgress(double seconds)>& go_on);

// Collective: those of all ranks, on every rank, by their items.
std::vector<BadItem> gathered(const std::vector<BadItem>& mine, Communicator& world);

// "bad: data set llava, record 17, data/coco/train2017/000.jpg: neither a JPEG, PNG nor WebP image"
std::string text_of(const BadRecord& bad);

}  // namespace facet
