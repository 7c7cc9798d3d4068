#include "kernels/cuda/attention_work.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"

namespace facet::cuda {
namespace {

constexpr int32_t kNoPosition = -1;

int32_t to_int(int64_t n) { return static_cast<int32_t>(n); }

// The tiles of one side of a plan, with their ranges and rows.
struct Tiles {
  std::vector<AttentionTile> tiles;
  std::vector<AttentionRange> ranges;
  std::vector<int32_t> rows, bounds;

  void clear() {
    tiles.clear();
    ranges.clear();
    rows.clear();
    bounds.clear();
  }
};
using Bounds = std::array<int32_t, kTileRows>;

// Cuts the rows of one sample into tiles. Rows of the same parts are kept together: the rows of the
// first part first, then further rows of the next parts, then the rest.
class TileWriter {
 public:
  void write_queries(Tiles& tiles, const AttentionPlan& plan, const AttentionSample& sample) {
    begin_sample(plan, sample, sample.query_row_begin, sample.num_query_rows);
    for (size_t p = 0; p < parts_.size(); ++p)
      list_rows(p, plan.query_rows, parts_[p]->query_begin, parts_[p]->num_queries);
    for_tiles(tiles, [&](const AttentionPart& part, size_t p, int64_t first, int64_t count) {
      add_key_range(tiles, plan, part, p, first, count);
    });
  }
  void write_keys(Tiles& tiles, const AttentionPlan& plan, const AttentionSample& sample) {
    begin_sample(plan, sample, sample.key_row_begin, sample.num_key_rows);
    for (size_t p = 0; p < parts_.size(); ++p)
      list_rows(p, plan.key_rows, parts_[p]->key_begin, parts_[p]->num_keys);
    for_tiles(tiles, [&](const AttentionPart& part, size_t p, int64_t first, int64_t count) {
      add_query_range(tiles, plan, part, p, first, count);
    });
  }

 private:
  void begin_sample(const AttentionPlan& plan, const AttentionSample& sample, int64_t row_begin,
                    int64_t num_rows) {
    parts_.clear();
    for (int64_t p = 0; p < sample.num_parts; ++p)
      parts_.push_back(&plan.parts[static_cast<size_t>(sample.part_begin + p)]);
    // Within a slot in the plan's order. (std::stable_sort would allocate.)
    std::sort(parts_.begin(), parts_.end(), [](const auto* a, const auto* b) {
      return a->slot != b->slot ? a->slot < b->slot : a < b;
    });
    row_begin_ = row_begin;
    num_rows_ = num_rows;
    listed_.assign(static_cast<size_t>(num_rows), 0);
    positions_.assign(parts_.size() * static_cast<size_t>(num_rows), kNoPosition);
    order_.clear();
  }
  // Records the position of every row in the part's list, and lists the rows that are new.
  void list_rows(size_t part, const std::vector<int32_t>& rows, int64_t begin, int64_t count) {
    int32_t* places = positions_.data() + part * static_cast<size_t>(num_rows_);
    for (int64_t n = 0; n < count; ++n) {
      const auto row = static_cast<size_t>(rows[static_cast<size_t>(begin + n)] - row_begin_);
      places[row] = to_int(n);
      if (!listed_[row]) order_.push_back(to_int(static_cast<int64_t>(row)));
      listed_[row] = 1;
    }
  }
  template <typename AddRange>
  void for_tiles(Tiles& tiles, const AddRange& add_range) {
    for (size_t row = 0; row < listed_.size(); ++row)
      if (!listed_[row]) order_.push_back(to_int(static_cast<int64_t>(row)));
    for (int64_t first = 0; first < num_rows_; first += kTileRows) {
      const int64_t count = std::min<int64_t>(kTileRows, num_rows_ - first);
      AttentionTile tile{to_int(static_cast<int64_t>(tiles.rows.size())), to_int(count),
                         to_int(static_cast<int64_t>(tiles.ranges.size())), 0};
      for (int64_t i = 0; i < count; ++i) tiles.rows.push_back(to_int(row_begin_ + row(first + i)));
      for (size_t p = 0; p < parts_.size(); ++p) add_range(*parts_[p], p, first, count);
      tile.num_ranges = to_int(static_cast<int64_t>(tiles.ranges.size()) - tile.range_begin);
      tiles.tiles.push_back(tile);
    }
  }
  int64_t row(int64_t place) const { return order_[static_cast<size_t>(place)]; }
  int32_t position(size_t part, int64_t place) const {
    return positions_[part * static_cast<size_t>(num_rows_) + static_cast<size_t>(row(place))];
  }

  static AttentionRange new_range(const Tiles& tiles, const AttentionPart& part) {
    AttentionRange range{};
    range.bound_begin = to_int(static_cast<int64_t>(tiles.bounds.size()));
    range.slot = part.slot;
    range.is_mean = part.kind == AttentionPart::Kind::kMean;
    return range;
  }

  void add_key_range(Tiles& tiles, const AttentionPlan& plan, const AttentionPart& part, size_t p,
                     int64_t first, int64_t count) const {
    AttentionRange range = new_range(tiles, part);
    int32_t most = 0, least = kNeverSeen, most_hidden = 0, least_hidden = kNeverSeen;
    Bounds bounds{}, hidden{};
    for (int64_t i = 0; i < count; ++i) {
      const int32_t query = position(p, first + i);
      if (query == kNoPosition) continue;
      const auto at = static_cast<size_t>(part.query_begin + query);
      const int32_t visible = bounds[static_cast<size_t>(i)] = plan.visible_keys[at];
      most = std::max(most, visible);
      least = std::min(least, visible);
      const int32_t unseen = plan.hidden_keys.empty() ? 0 : plan.hidden_keys[at];
      hidden[static_cast<size_t>(i)] = unseen;
      most_hidden = std::max(most_hidden, unseen);
      least_hidden = std::min(least_hidden, unseen);
    }
    if (most == 0) return;
    // The range begins with the first key that any of the rows sees.
    for (size_t i = 0; i < bounds.size(); ++i) {
      if (bounds[i] == 0) continue;
      bounds[i] -= least_hidden;
      hidden[i] -= least_hidden;
    }
    range.begin = to_int(part.key_begin + least_hidden);
    range.count = most - least_hidden;
    range.is_window = most_hidden > least_hidden;
    range.full = range.is_mean || range.is_window ? 0 : least - least_hidden;
    keep(tiles, range, bounds);
    if (range.is_window) tiles.bounds.insert(tiles.bounds.end(), hidden.begin(), hidden.end());
  }

  void add_query_range(Tiles& tiles, const AttentionPlan& plan, const AttentionPart& part, size_t p,
                       int64_t first, int64_t count) const {
    AttentionRange range = new_range(tiles, part);
    int32_t most = 0, least = kNeverSeen, most_in_list = -1;
    Bounds bounds;
    bounds.fill(kNeverSeen);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t key = position(p, first + i);
      if (key != kNoPosition) bounds[static_cast<size_t>(i)] = key;
      most_in_list = std::max(most_in_list, key);
      least = std::min(least, bounds[static_cast<size_t>(i)]);
      most = std::max(most, bounds[static_cast<size_t>(i)]);
    }
    // Prefixes are non-decreasing: the queries that see the tile's first key are the last ones, but
    // for those whose window begins behind its last key.
    const auto begin = plan.visible_keys.begin() + part.query_begin;
    auto end = begin + part.num_queries;
    if (!plan.hidden_keys.empty()) {
      const auto hidden = plan.hidden_keys.begin() + part.query_begin;
      end = begin + (std::upper_bound(hidden, hidden + part.num_queries, most_in_list) - hidden);
      range.is_window = end > begin && hidden[end - begin - 1] > least;
    }
    const auto seeing = std::upper_bound(begin, end, least);
    range.begin = to_int(seeing - plan.visible_keys.begin());
    range.count = to_int(end - seeing);
    range.full =
        range.is_mean || range.is_window ? 0 : to_int(end - std::upper_bound(begin, end, most));
    keep(tiles, range, bounds);
  }

  static void keep(Tiles& tiles, const AttentionRange& range, const Bounds& bounds) {
    if (range.count == 0) return;
    tiles.ranges.push_back(range);
    tiles.bounds.insert(tiles.bounds.end(), bounds.begin(), bounds.end());
  }

  int64_t row_begin_ = 0, num_rows_ = 0;
  std::vector<const AttentionPart*> parts_;
  std::vector<uint8_t> listed_;     // by row of the sample
  std::vector<int32_t> positions_;  // by part and row: position in the part's list
  std::vector<int32_t> order_;
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

bool are_neighbours(const int32_t* rows, int64_t count) {
  for (int64_t i = 1; i < count; ++i)
    if (rows[i] != rows[i - 1] + 1) return false;
  return true;
}

// As in AttentionLists.
int32_t neighbouring_rows(const AttentionPlan& plan) {
  for (const AttentionPart& part : plan.parts)
    if (!are_neighbours(plan.key_rows.data() + part.key_begin, part.num_keys)) return 0;
  int64_t end = plan.samples.empty() ? 0 : plan.samples.front().key_row_begin;
  for (const AttentionSample& sample : plan.samples) {
    if (sample.key_row_begin != end) return 0;
    end += sample.num_key_rows;
  }
  return to_int(end);
}

// One entry per row of q: the row of v that is added to it, or -1.
int32_t append_self_rows(std::vector<int32_t>& words, const AttentionPlan& plan) {
  size_t rows = 0;
  for (const AttentionSample& sample : plan.samples)
    rows += static_cast<size_t>(sample.num_query_rows);
  const size_t begin = words.size();
  words.resize(begin + rows, -1);
  for (const int32_t row : plan.self_rows) words[begin + static_cast<size_t>(row)] = row;
  return to_int(static_cast<int64_t>(begin));
}

template <typename T>
int32_t append(std::vector<int32_t>& words, const std::vector<T>& items) {
  const size_t begin = words.size(), count = items.size() * sizeof(T) / sizeof(int32_t);
  words.resize(begin + count);
  if (count > 0) std::memcpy(words.data() + begin, items.data(), count * sizeof(int32_t));
  return to_int(static_cast<int64_t>(begin));
}

// Offsets of the second side's tiles, ranges and rows, which follow those of the first.
void append_side(Tiles& all, const Tiles& side) {
  const int32_t rows = to_int(static_cast<int64_t>(all.rows.size()));
  const int32_t ranges = to_int(static_cast<int64_t>(all.ranges.size()));
  const int32_t bounds = to_int(static_cast<int64_t>(all.bounds.size()));
  for (AttentionTile tile : side.tiles) {
    tile.row_begin += rows;
    tile.range_begin += ranges;
    all.tiles.push_back(tile);
  }
  for (AttentionRange range : side.ranges) {
    range.bound_begin += bounds;
    all.ranges.push_back(range);
  }
  all.rows.insert(all.rows.end(), side.rows.begin(), side.rows.end());
  all.bounds.insert(all.bounds.end(), side.bounds.begin(), side.bounds.end());
}

}  // namespace

struct AttentionWork::Builder {
  TileWriter writer;
  Tiles queries, keys, all;
};

AttentionWork::AttentionWork() : builder_(std::make_unique<Builder>()) {}
AttentionWork::AttentionWork(const AttentionPlan& plan) : AttentionWork() { make(plan); }
AttentionWork::~AttentionWork() = default;

void AttentionWork::make(const AttentionPlan& plan) {
  auto& [writer, queries, keys, all] = *builder_;
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
  lists_.rows = append(words_, all.rows);
  lists_.bounds = append(words_, all.bounds);
  lists_.key_rows = append(words_, plan.key_rows);
  lists_.query_rows = append(words_, plan.query_rows);
  lists_.visible_keys = append(words_, plan.visible_keys);
  lists_.hidden_keys = append(words_, plan.hidden_keys);
  lists_.self_rows = append_self_rows(words_, plan);
  lists_.neighbouring_rows = neighbouring_rows(plan);
  ASSERT(words_.size() <= size_t{std::numeric_limits<int32_t>::max()},
         "an attention work list of {} words", words_.size());
}

AttentionLists AttentionWork::lists(const int32_t* device_words) const {
  AttentionLists lists = lists_;
  lists.data = device_words;
  return lists;
}

}  // namespace facet::cuda
