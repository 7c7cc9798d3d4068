#include "kernels/cuda/attention_work.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/cuda/list_words.h"

namespace facet::cuda {
namespace {

// The tiles of one side of a plan, with their ranges.
struct Tiles {
  std::vector<AttentionTile> tiles;
  std::vector<AttentionRange> ranges;
  std::vector<int32_t> bounds;

  void clear() {
    tiles.clear();
    ranges.clear();
    bounds.clear();
  }
};
using Bounds = std::array<int32_t, kTileRows>;

// Cuts the rows of one sample into tiles.
class TileWriter {
 public:
  void write_queries(Tiles& tiles, const AttentionPlan& plan, const AttentionSample& sample) {
    for_tiles(tiles, plan, sample, sample.query_row_begin, sample.num_query_rows,
              [&](const AttentionPart& part, int64_t first, int64_t count) {
                add_key_ranges(tiles, plan, part, first, count);
              });
  }
  void write_keys(Tiles& tiles, const AttentionPlan& plan, const AttentionSample& sample) {
    for_tiles(tiles, plan, sample, sample.key_row_begin, sample.num_key_rows,
              [&](const AttentionPart& part, int64_t first, int64_t count) {
                add_query_range(tiles, plan, part, first, count);
              });
  }

 private:
  // Calls add_ranges(part, first row, rows) for every tile and part.
  template <typename AddRanges>
  void for_tiles(Tiles& tiles, const AttentionPlan& plan, const AttentionSample& sample,
                 int64_t row_begin, int64_t num_rows, const AddRanges& add_ranges) {
    sort_parts(plan, sample);
    for (int64_t first = 0; first < num_rows; first += kTileRows) {
      const int64_t count = std::min<int64_t>(kTileRows, num_rows - first);
      AttentionTile tile{to_int(row_begin + first), to_int(count), size_of(tiles.ranges), 0};
      for (const AttentionPart* part : parts_) add_ranges(*part, row_begin + first, count);
      tile.num_ranges = size_of(tiles.ranges) - tile.range_begin;
      tiles.tiles.push_back(tile);
    }
  }
  void sort_parts(const AttentionPlan& plan, const AttentionSample& sample) {
    parts_.clear();
    for (int64_t p = 0; p < sample.num_parts; ++p)
      parts_.push_back(&plan.parts[static_cast<size_t>(sample.part_begin + p)]);
    // Within a slot in the plan's order. (std::stable_sort would allocate.)
    std::sort(parts_.begin(), parts_.end(), [](const auto* a, const auto* b) {
      return a->slot != b->slot ? a->slot < b->slot : a < b;
    });
  }

  template <typename T>
  static int32_t size_of(const std::vector<T>& items) {
    return to_int(static_cast<int64_t>(items.size()));
  }
  static AttentionRange new_range(const Tiles& tiles, const AttentionPart& part) {
    AttentionRange range{};
    range.bound_begin = size_of(tiles.bounds);
    range.slot = part.slot;
    range.is_mean = part.kind == AttentionPart::Kind::kMean;
    return range;
  }

  // What the rows of a query tile see of a part's keys: each those from its `hidden` up to its
  // `visible` ones; rows that are not in the part none.
  struct Seen {
    Bounds visible{}, hidden{};
    int32_t most = 0, least = kNeverSeen, most_hidden = 0, least_hidden = kNeverSeen;
  };
  static Seen seen_by(const AttentionPlan& plan, const AttentionPart& part, int64_t first,
                      int64_t count) {
    Seen seen;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t query = first + i - part.queries.first;
      if (query < 0 || query >= part.queries.count) continue;
      const auto at = static_cast<size_t>(part.visible_begin + query);
      const int32_t visible = plan.visible_keys[at];
      const int32_t hidden = plan.hidden_keys.empty() ? 0 : plan.hidden_keys[at];
      seen.visible[static_cast<size_t>(i)] = visible;
      seen.hidden[static_cast<size_t>(i)] = hidden;
      seen.most = std::max(seen.most, visible);
      seen.least = std::min(seen.least, visible);
      seen.most_hidden = std::max(seen.most_hidden, hidden);
      seen.least_hidden = std::min(seen.least_hidden, hidden);
    }
    return seen;
  }

  // Rows [first, + count) of q with the keys of a part: one range for each range of the keys, from
  // the first key on that one of the rows sees and as far as one of them does.
  static void add_key_ranges(Tiles& tiles, const AttentionPlan& plan, const AttentionPart& part,
                             int64_t first, int64_t count) {
    const Seen seen = seen_by(plan, part, first, count);
    auto keys = plan.key_ranges.begin() + part.key_begin;
    for (int32_t before = 0; before < seen.most; before += keys->count, ++keys) {
      const int32_t skipped = std::max(0, seen.least_hidden - before);
      const int32_t left = keys->count - skipped;
      if (left <= 0) continue;
      const auto within = [&](int32_t n) { return std::clamp(n - before - skipped, 0, left); };
      AttentionRange range = new_range(tiles, part);
      range.begin = keys->first + skipped;
      range.count = within(seen.most);
      range.is_window = within(seen.most_hidden) > 0;
      if (!range.is_mean && !range.is_window) range.full = within(seen.least);
      range.continues = before > seen.least_hidden;
      tiles.ranges.push_back(range);
      for (const int32_t n : seen.visible) tiles.bounds.push_back(within(n));
      if (!range.is_window) continue;
      for (const int32_t n : seen.hidden) tiles.bounds.push_back(within(n));
    }
  }

  // Where the rows of a key tile are in a part's list of keys; kNeverSeen for rows not in it.
  struct Places {
    Bounds of_row;
    int32_t least = kNeverSeen, most = kNeverSeen;
    int32_t last = -1;  // of the rows in the list
  };
  static Places places_of(const AttentionPlan& plan, const AttentionPart& part, int64_t first,
                          int64_t count) {
    Places places;
    places.of_row.fill(kNeverSeen);
    auto keys = plan.key_ranges.begin() + part.key_begin;
    for (int64_t before = 0; before < part.num_keys; before += keys->count, ++keys) {
      const int64_t begin = std::max<int64_t>(first, keys->first);
      const int64_t end =
          std::min<int64_t>({first + count, keys->end(), keys->first + part.num_keys - before});
      for (int64_t row = begin; row < end; ++row) {
        const int32_t place = to_int(before + row - keys->first);
        places.of_row[static_cast<size_t>(row - first)] = place;
        places.last = std::max(places.last, place);
      }
    }
    const auto [least, most] =
        std::minmax_element(places.of_row.begin(), places.of_row.begin() + count);
    places.least = *least;
    places.most = *most;
    return places;
  }

  // Rows [first, + count) of k with the queries of a part that see one of them. Prefixes are
  // non-decreasing: those are the last queries, from the first on that sees the tile's first key,
  // but for those whose window begins behind the tile's last key.
  static void add_query_range(Tiles& tiles, const AttentionPlan& plan, const AttentionPart& part,
                              int64_t first, int64_t count) {
    const Places places = places_of(plan, part, first, count);
    const auto visible = plan.visible_keys.begin() + part.visible_begin;
    auto end = visible + part.queries.count;
    int32_t most_hidden = 0;
    if (!plan.hidden_keys.empty()) {
      const auto hidden = plan.hidden_keys.begin() + part.visible_begin;
      const auto behind = std::upper_bound(hidden, hidden + part.queries.count, places.last);
      end = visible + (behind - hidden);
      if (behind != hidden) most_hidden = behind[-1];
    }
    const auto seeing = std::upper_bound(visible, end, places.least);
    if (seeing == end) return;
    AttentionRange range = new_range(tiles, part);
    range.begin = to_int(part.queries.first + (seeing - visible));
    range.count = to_int(end - seeing);
    range.is_window = most_hidden > places.least;
    if (!range.is_mean && !range.is_window)
      range.full = to_int(end - std::upper_bound(visible, end, places.most));
    range.visible_begin = to_int(seeing - plan.visible_keys.begin());
    tiles.ranges.push_back(range);
    tiles.bounds.insert(tiles.bounds.end(), places.of_row.begin(), places.of_row.end());
  }

  std::vector<const AttentionPart*> parts_;
};

int64_t steps_of(int32_t count) { return (count + kStepRows - 1) / kStepRows; }

// The longest first, so that the last blocks to run are short.
void sort_by_cost(Tiles& tiles) {
  const auto cost = [&](const AttentionTile& tile) {
    int64_t sum = 0;
    for (int32_t r = 0; r < tile.num_ranges; ++r)
      sum += steps_of(tiles.ranges[static_cast<size_t>(tile.range_begin + r)].count);
    return sum;
  };
  std::sort(tiles.tiles.begin(), tiles.tiles.end(), [&](const auto& a, const auto& b) {
    const int64_t cost_a = cost(a), cost_b = cost(b);
    return cost_a != cost_b ? cost_a > cost_b : a.row_begin < b.row_begin;
  });
}

// The blocks of rows of q that the steps of key tiles are of.
void find_steps(JointSteps& steps, const Tiles& keys, int32_t query_rows) {
  steps.clear();
  steps.num_blocks = to_int(steps_of(query_rows));
  for (const AttentionTile& tile : keys.tiles) {
    for (int32_t r = 0; r < tile.num_ranges; ++r) {
      const AttentionRange& range = keys.ranges[static_cast<size_t>(tile.range_begin + r)];
      const int32_t last = (range.begin + range.count - 1) / kStepRows;
      for (int32_t block = range.begin / kStepRows; block <= last; ++block)
        steps.blocks.push_back(block);
    }
    steps.end_tile();
  }
}

int32_t query_rows_of(const AttentionPlan& plan) {
  int64_t rows = 0;
  for (const AttentionSample& sample : plan.samples) rows += sample.num_query_rows;
  return to_int(rows);
}

// As in AttentionLists.
int32_t key_rows_of(const AttentionPlan& plan) {
  if (plan.pool_rows > 0) return to_int(plan.pool_rows);
  int64_t end = 0;
  for (const AttentionSample& sample : plan.samples) {
    ASSERT(sample.key_row_begin == end, "keys of a sample from row {} on, not {}",
           sample.key_row_begin, end);
    end += sample.num_key_rows;
  }
  return to_int(end);
}

// One entry per row of one side: its row of the other side where it is a self row, or -1.
int32_t append_self_rows(std::vector<int32_t>& words, const AttentionPlan& plan,
                         int64_t AttentionSample::*num_rows, int32_t SelfRows::*mine,
                         int32_t SelfRows::*other) {
  size_t rows = 0;
  for (const AttentionSample& sample : plan.samples) rows += static_cast<size_t>(sample.*num_rows);
  const size_t begin = words.size();
  words.resize(begin + rows, -1);
  for (const SelfRows& self : plan.self_rows)
    for (int32_t i = 0; i < self.count; ++i)
      words[begin + static_cast<size_t>(self.*mine + i)] = self.*other + i;
  return to_int(static_cast<int64_t>(begin));
}

// Offsets of the second side's ranges and bounds, which follow those of the first.
void append_side(Tiles& all, const Tiles& side) {
  const int32_t ranges = to_int(static_cast<int64_t>(all.ranges.size()));
  const int32_t bounds = to_int(static_cast<int64_t>(all.bounds.size()));
  for (AttentionTile tile : side.tiles) {
    tile.range_begin += ranges;
    all.tiles.push_back(tile);
  }
  for (AttentionRange range : side.ranges) {
    range.bound_begin += bounds;
    all.ranges.push_back(range);
  }
  all.bounds.insert(all.bounds.end(), side.bounds.begin(), side.bounds.end());
}

}  // namespace

struct AttentionWork::Builder {
  TileWriter writer;
  Tiles queries, keys, all;
  JointSteps steps;
  JointOrder joint;
  std::vector<JointTile> joint_tiles;
};

AttentionWork::AttentionWork() : builder_(std::make_unique<Builder>()) {}
AttentionWork::AttentionWork(const AttentionPlan& plan, const JointShare& share) : AttentionWork() {
  make(plan, share);
}
AttentionWork::~AttentionWork() = default;

void AttentionWork::make(const AttentionPlan& plan, const JointShare& share) {
  auto& [writer, queries, keys, all, steps, joint, joint_tiles] = *builder_;
  for (Tiles* tiles : {&queries, &keys, &all}) tiles->clear();
  words_.clear();
  for (const AttentionSample& sample : plan.samples) {
    writer.write_queries(queries, plan, sample);
    writer.write_keys(keys, plan, sample);
  }
  sort_by_cost(queries);
  sort_by_cost(keys);
  append_side(all, queries);
  append_side(all, keys);

  lists_.num_slots = plan.num_slots;
  lists_.has_windows = !plan.hidden_keys.empty();
  lists_.num_query_tiles = to_int(static_cast<int64_t>(queries.tiles.size()));
  lists_.num_key_tiles = to_int(static_cast<int64_t>(keys.tiles.size()));
  lists_.query_tiles = append(words_, all.tiles);
  lists_.key_tiles =
      lists_.query_tiles + lists_.num_query_tiles * to_int(sizeof(AttentionTile) / sizeof(int32_t));
  lists_.ranges = append(words_, all.ranges);
  lists_.bounds = append(words_, all.bounds);
  lists_.visible_keys = append(words_, plan.visible_keys);
  lists_.hidden_keys = append(words_, plan.hidden_keys);
  lists_.self_rows = append_self_rows(words_, plan, &AttentionSample::num_query_rows,
                                      &SelfRows::query, &SelfRows::key);
  if (plan.pool_rows == 0)  // otherwise there is no backward pass
    lists_.self_queries = append_self_rows(words_, plan, &AttentionSample::num_key_rows,
                                           &SelfRows::key, &SelfRows::query);
  lists_.key_rows = key_rows_of(plan);
  lists_.query_rows = query_rows_of(plan);
  lists_.joint_tiles = lists_.turns_of_blocks = 0;
  if (share.multiprocessors > 0 && plan.pool_rows == 0 && !lists_.has_windows) {
    find_steps(steps, keys, lists_.query_rows);
    joint.make(steps, share);
    const int32_t turns = append(words_, joint.turns());
    joint_tiles.clear();
    for (const int32_t tile : joint.tiles())
      joint_tiles.push_back({tile, turns + steps.begins[static_cast<size_t>(tile)]});
    lists_.joint_tiles = append(words_, joint_tiles);
    lists_.turns_of_blocks = append(words_, joint.turns_of_blocks());
  }
  ASSERT(words_.size() <= size_t{std::numeric_limits<int32_t>::max()},
         "an attention work list of {} words", words_.size());
}

AttentionLists AttentionWork::lists(const int32_t* device_words) const {
  AttentionLists lists = lists_;
  lists.data = device_words;
  return lists;
}

}  // namespace facet::cuda
