#include "kernels/cuda/attention_work.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace facet::cuda {
namespace {

constexpr int32_t kNoPosition = -1;

int32_t to_int(int64_t n) { return static_cast<int32_t>(n); }

// The tiles of one side of a plan with what belongs to them.
struct Tiles {
  std::vector<AttentionTile> tiles;
  std::vector<AttentionRange> ranges;
  std::vector<int32_t> rows, bounds;
};

// Cuts the rows of one sample into tiles. Rows that meet the same parts lie together: the rows of
// the first part first, then what the next parts have beside them, then the rest.
class TileWriter {
 public:
  TileWriter(const AttentionPlan& plan, Tiles& tiles) : plan_(plan), tiles_(tiles) {}

  void write_queries(const AttentionSample& sample) {
    begin_sample(sample, sample.query_row_begin, sample.num_query_rows);
    for (const AttentionPart* part : parts_)
      list_rows(plan_.query_rows, part->query_begin, part->num_queries);
    for_tiles([&](const AttentionPart& part, size_t p, int64_t first, int64_t count) {
      add_key_range(part, p, first, count);
    });
  }
  void write_keys(const AttentionSample& sample) {
    begin_sample(sample, sample.key_row_begin, sample.num_key_rows);
    for (const AttentionPart* part : parts_)
      list_rows(plan_.key_rows, part->key_begin, part->num_keys);
    for_tiles([&](const AttentionPart& part, size_t p, int64_t first, int64_t count) {
      add_query_range(part, p, first, count);
    });
  }

 private:
  void begin_sample(const AttentionSample& sample, int64_t row_begin, int64_t num_rows) {
    parts_.clear();
    for (int64_t p = 0; p < sample.num_parts; ++p)
      parts_.push_back(&plan_.parts[static_cast<size_t>(sample.part_begin + p)]);
    std::stable_sort(parts_.begin(), parts_.end(),
                     [](const auto* a, const auto* b) { return a->slot < b->slot; });
    row_begin_ = row_begin;
    num_rows_ = num_rows;
    listed_.assign(static_cast<size_t>(num_rows), 0);
    positions_.clear();
    order_.clear();
  }
  // Notes the place of every row in the part's list, and lists the rows that are new.
  void list_rows(const std::vector<int32_t>& rows, int64_t begin, int64_t count) {
    std::vector<int32_t>& places =
        positions_.emplace_back(static_cast<size_t>(num_rows_), kNoPosition);
    for (int64_t n = 0; n < count; ++n) {
      const auto row = static_cast<size_t>(rows[static_cast<size_t>(begin + n)] - row_begin_);
      places[row] = to_int(n);
      if (!listed_[row]) order_.push_back(to_int(static_cast<int64_t>(row)));
      listed_[row] = 1;
    }
  }
  template <typename AddRange>
  void for_tiles(const AddRange& add_range) {
    for (size_t row = 0; row < listed_.size(); ++row)
      if (!listed_[row]) order_.push_back(to_int(static_cast<int64_t>(row)));
    for (int64_t first = 0; first < num_rows_; first += kTileRows) {
      const int64_t count = std::min<int64_t>(kTileRows, num_rows_ - first);
      AttentionTile tile{to_int(static_cast<int64_t>(tiles_.rows.size())), to_int(count),
                         to_int(static_cast<int64_t>(tiles_.ranges.size())), 0};
      for (int64_t i = 0; i < count; ++i)
        tiles_.rows.push_back(to_int(row_begin_ + row(first + i)));
      for (size_t p = 0; p < parts_.size(); ++p) add_range(*parts_[p], p, first, count);
      tile.num_ranges = to_int(static_cast<int64_t>(tiles_.ranges.size()) - tile.range_begin);
      tiles_.tiles.push_back(tile);
    }
  }
  int64_t row(int64_t place) const { return order_[static_cast<size_t>(place)]; }
  int32_t position(size_t part, int64_t place) const {
    return positions_[part][static_cast<size_t>(row(place))];
  }

  AttentionRange new_range(const AttentionPart& part) const {
    AttentionRange range{};
    range.bound_begin = to_int(static_cast<int64_t>(tiles_.bounds.size()));
    range.slot = part.slot;
    range.is_mean = part.kind == AttentionPart::Kind::kMean;
    return range;
  }

  void add_key_range(const AttentionPart& part, size_t p, int64_t first, int64_t count) {
    AttentionRange range = new_range(part);
    range.begin = to_int(part.key_begin);
    int32_t most = 0;
    std::vector<int32_t> bounds(kTileRows, 0);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t query = position(p, first + i);
      const int32_t visible =
          query == kNoPosition ? 0
                               : plan_.visible_keys[static_cast<size_t>(part.query_begin + query)];
      bounds[static_cast<size_t>(i)] = visible;
      most = std::max(most, visible);
    }
    range.count = most;
    keep(range, bounds);
  }

  void add_query_range(const AttentionPart& part, size_t p, int64_t first, int64_t count) {
    AttentionRange range = new_range(part);
    int32_t least = kNeverSeen;
    std::vector<int32_t> bounds(kTileRows, kNeverSeen);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t key = position(p, first + i);
      if (key == kNoPosition) continue;
      bounds[static_cast<size_t>(i)] = key;
      least = std::min(least, key);
    }
    // Queries see growing prefixes: those that see the tile's first key are the last ones.
    const auto begin = plan_.visible_keys.begin() + part.query_begin;
    const auto end = begin + part.num_queries;
    const auto seeing = std::upper_bound(begin, end, least);
    range.begin = to_int(seeing - plan_.visible_keys.begin());
    range.count = to_int(end - seeing);
    keep(range, bounds);
  }

  void keep(const AttentionRange& range, const std::vector<int32_t>& bounds) {
    if (range.count == 0) return;
    tiles_.ranges.push_back(range);
    tiles_.bounds.insert(tiles_.bounds.end(), bounds.begin(), bounds.end());
  }

  const AttentionPlan& plan_;
  Tiles& tiles_;
  int64_t row_begin_ = 0, num_rows_ = 0;
  std::vector<const AttentionPart*> parts_;
  std::vector<uint8_t> listed_;                  // by row of the sample
  std::vector<std::vector<int32_t>> positions_;  // by part and row: the place in the part's list
  std::vector<int32_t> order_;
};

// The longest first, so that a device's last blocks are short ones.
void sort_by_cost(Tiles& tiles) {
  const auto cost = [&](const AttentionTile& tile) {
    int64_t sum = 0;
    for (int32_t r = 0; r < tile.num_ranges; ++r)
      sum += tiles.ranges[static_cast<size_t>(tile.range_begin + r)].count;
    return sum;
  };
  std::stable_sort(tiles.tiles.begin(), tiles.tiles.end(),
                   [&](const auto& a, const auto& b) { return cost(a) > cost(b); });
}

std::vector<int32_t> self_row_of_each(const AttentionPlan& plan) {
  int64_t rows = 0;
  for (const AttentionSample& sample : plan.samples) rows += sample.num_query_rows;
  std::vector<int32_t> self(static_cast<size_t>(rows), -1);
  for (const int32_t row : plan.self_rows) self[static_cast<size_t>(row)] = row;
  return self;
}

template <typename T>
int32_t append(std::vector<int32_t>& words, const std::vector<T>& items) {
  const size_t begin = words.size(), count = items.size() * sizeof(T) / sizeof(int32_t);
  words.resize(begin + count);
  if (count > 0) std::memcpy(words.data() + begin, items.data(), count * sizeof(int32_t));
  return to_int(static_cast<int64_t>(begin));
}

// Where the second side's tiles, ranges and rows come to lie behind those of the first.
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

AttentionWork::AttentionWork(const AttentionPlan& plan) {
  Tiles queries, keys, all;
  TileWriter query_writer(plan, queries), key_writer(plan, keys);
  for (const AttentionSample& sample : plan.samples) {
    query_writer.write_queries(sample);
    key_writer.write_keys(sample);
  }
  sort_by_cost(queries);
  sort_by_cost(keys);
  append_side(all, queries);
  append_side(all, keys);

  lists_.num_slots = plan.num_slots;
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
  lists_.self_rows = append(words_, self_row_of_each(plan));
  ASSERT(words_.size() <= size_t{std::numeric_limits<int32_t>::max()},
         "an attention work list of {} words", words_.size());
}

AttentionLists AttentionWork::lists(const int32_t* device_words) const {
  AttentionLists lists = lists_;
  lists.data = device_words;
  return lists;
}

}  // namespace facet::cuda
