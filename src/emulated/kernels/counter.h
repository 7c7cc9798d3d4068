// Counters in device memory by which the blocks of a grid take turns: who waits for a count has
// everything before its release. Blocks run one after the other here, so a count that no block has
// released yet, and this one does not, is an error: it would be one of a block that starts later.
#pragma once

#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {

// Until the counter says `count`.
void await_count(const int32_t* counter, int32_t count, Site where);
void release_count(int32_t* counter, int32_t count, Site where);

// ---- for the race check
// What a thread of an earlier block of the grid did: at `time` of its warp, between two barriers.
struct ElsewhereDone {
  uint64_t block_serial;
  uint32_t interval, time;
  unsigned thread;
};
// Whether the running thread knows by a count that it is done.
bool is_known_by_counts(const ElsewhereDone& done);

// ---- for the executor
void forget_counters();         // at the beginning of a grid
void forget_acquired_counts();  // and of a block

}  // namespace facet::emulated
