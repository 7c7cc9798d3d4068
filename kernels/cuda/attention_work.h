// The work list of attention kernels: an AttentionPlan cut into tiles of query rows (forward, dq)
// and of key rows (dk, dv). Every row is in exactly one tile, so every output is written once, by
// one block, and sums run in a fixed order. Built on the host once per batch and copied to the
// device as one array.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/cuda/joint_order.h"
#include "ops/attention_plan.h"
#include "ops/attention_widths.h"

namespace facet::cuda {

constexpr int kTileRows = 128;  // of q, or of k and v
constexpr int kStepRows = 64;   // of the other side, that a tile is multiplied with at a time

// Rows of one side that a block keeps, and the ranges of the other side that they interact with.
// Tile and ranges are contiguous rows of their matrices.
struct AttentionTile {
  int32_t row_begin, num_rows;      // rows of q and out, or of k and v
  int32_t range_begin, num_ranges;  // in order of their slots
};

// One part of the plan, as seen by a tile. For a query tile: rows [begin, + count) of k and v, of
// which the tile's row i sees the first bounds[bound_begin + i]; a part whose keys lie in several
// ranges of rows has one of these for each. For a key tile: rows [begin, + count) of q and out; the
// j-th of them sees the tile's row i if visible_keys[visible_begin + j] exceeds bounds[bound_begin
// + i].
struct AttentionRange {
  int32_t begin, count;
  int32_t full;  // how many are visible with every row: the first `full` keys (rows that are not in
                 // the part aside), or the last `full` queries; 0 for a mean
  int32_t bound_begin;  // kTileRows bounds; 0 (queries) or kNeverSeen (keys) for rows not in it
  int32_t slot;
  int16_t is_mean;  // the scores are taken as 0
  // Windows hide some of these pairs. Then `full` is 0. For a query tile: kTileRows numbers follow
  // the bounds; row i does not see the first of its keys, so many. For a key tile: the j-th query
  // sees no row of the tile whose bound is below hidden_keys[visible_begin + j].
  int16_t is_window;
  int32_t continues;      // of a query tile: goes on with the softmax of the range before it
  int32_t visible_begin;  // of a key tile
};
constexpr int32_t kNeverSeen = std::numeric_limits<int32_t>::max();

// A key tile in the order in which a joint backward kernel begins them. Its steps are of the rows
// of q from 64 i to 64 i + 63 that a range meets, range by range. Several tiles add to the
// gradients of such a block of rows, and one may twice: the turn of a step says how many have
// before it.
struct JointTile {
  int32_t key_tile;
  int32_t turn_begin;  // in the list; one turn for each step
};

// The list in device memory: offsets of its sections.
struct AttentionLists {
  const int32_t* data = nullptr;
  int32_t num_slots = 1;
  int32_t num_query_tiles = 0, num_key_tiles = 0;
  int32_t query_tiles = 0, key_tiles = 0, ranges = 0, bounds = 0;
  int32_t visible_keys = 0;  // as in the plan
  int32_t self_rows = 0;     // one per row of q: the row of v that is added to it, or -1
  int32_t self_queries = 0;  // one per row of v: the row of out that it is added to, or -1
  int32_t hidden_keys = 0;   // as in the plan
  int32_t has_windows = 0;   // whether any range is_window or begins behind a part's first key
  // Rows of k and v up to here belong to the samples, one after the other: boxes of rows may be
  // read whatever they contain. Behind them a cache may not have been written.
  int32_t key_rows = 0;
  // Of a joint backward; 0 without one, and with windows.
  int32_t joint_tiles = 0;      // as many as key tiles
  int32_t turns_of_blocks = 0;  // of each block of kStepRows rows of q
  int32_t query_rows = 0;
};

class AttentionWork {
 public:
  AttentionWork();
  explicit AttentionWork(const AttentionPlan& plan, const JointShare& share = {});
  ~AttentionWork();

  // Builds the list of another plan. Allocates nothing once it has grown to the largest.
  void make(const AttentionPlan& plan, const JointShare& share = {});

  const std::vector<int32_t>& words() const { return words_; }
  // The list, once words() are copied to `device_words`.
  AttentionLists lists(const int32_t* device_words) const;

 private:
  struct Builder;

  std::unique_ptr<Builder> builder_;
  std::vector<int32_t> words_;
  AttentionLists lists_;
};

}  // namespace facet::cuda
