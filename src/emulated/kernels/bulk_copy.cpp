#include "emulated/kernels/bulk_copy.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "emulated/device/memory.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/mbarrier.h"
#include "emulated/kernels/shared_memory.h"

namespace facet::emulated {
namespace {

constexpr size_t kChunk = 16;
constexpr size_t kElement = sizeof(uint16_t);

struct BulkCopy {
  char* to;
  TensorMapContent map;
  void* barrier;
  int64_t col, row;
  unsigned thread;
  uint32_t time;  // of the thread's warp
  Site where;
};
struct WrittenRange {
  const char *begin, *end;
  bool swizzled;
};

struct State {
  std::vector<BulkCopy> under_way;
  std::vector<WrittenRange> written;  // the latest first where they overlap
};
State& state() {
  static auto* const of_cluster = new State;
  return *of_cluster;
}

int64_t copied_bytes = 0;

Executor& executor() { return Executor::instance(); }

// The part of a box's row that lies in the matrix: elements [first, last) of the box's row.
struct Inside {
  int64_t first, last;
  const char* from;  // element `first`
};
Inside inside(const BulkCopy& copy, int64_t box_row) {
  const int64_t row = copy.row + box_row, cols = static_cast<int64_t>(copy.map.cols);
  if (row < 0 || row >= static_cast<int64_t>(copy.map.rows)) return {0, 0, nullptr};
  const int64_t first = std::max<int64_t>(0, -copy.col);
  const int64_t last = std::min<int64_t>(copy.map.box_cols, cols - copy.col);
  if (first >= last) return {0, 0, nullptr};
  const auto offset = static_cast<size_t>(row) * copy.map.stride_bytes +
                      static_cast<size_t>(copy.col + first) * kElement;
  return {first, last, copy.map.data + offset};
}

void check_places(const BulkCopy& copy, Site where) {
  if (!shared_range().contains(copy.to))
    violation(where, "the destination of a box is not in shared memory");
  const size_t alignment = copy.map.swizzled ? kSwizzlePeriod : 128;
  require_alignment(copy.to, alignment, "the destination of a box", where);
  const size_t bytes = (copy.map.rows - 1) * copy.map.stride_bytes + copy.map.cols * kElement;
  check_device_range(copy.map.data, bytes, "the matrix of a tensor map", where);
}

void note_source(const BulkCopy& copy) {
  for (int64_t r = 0; r < copy.map.box_rows; ++r) {
    const Inside part = inside(copy, r);
    const size_t bytes = static_cast<size_t>(part.last - part.first) * kElement;
    copied_bytes += static_cast<int64_t>(bytes);
    note_access(part.from, bytes, Access::kAsyncRead, copy.where);
  }
}

// One for each block of the mask.
std::vector<BulkCopy> copies_to(unsigned blocks, const BulkCopy& copy) {
  if (blocks == 0 || blocks >> executor().blocks())
    violation(copy.where, "a box for the blocks {:#x} of a cluster of {}", blocks,
              executor().blocks());
  std::vector<BulkCopy> copies;
  for (unsigned block = 0; block < executor().blocks(); ++block) {
    if (!(blocks >> block & 1)) continue;
    BulkCopy& each = copies.emplace_back(copy);
    each.to = static_cast<char*>(in_block(copy.to, block));
    each.barrier = in_block(copy.barrier, block);
    require_published_mbarrier(each.barrier, copy.where);
    executor().note_access_to(block, "a box in", copy.where);
  }
  return copies;
}

void remember_order(const BulkCopy& copy) {
  auto& written = state().written;
  const char* end = copy.to + copy.map.box_bytes();
  std::erase_if(written, [&](const WrittenRange& w) { return w.begin < end && copy.to < w.end; });
  written.push_back({copy.to, end, copy.map.swizzled});
}

void store_row(const BulkCopy& copy, int64_t r, std::vector<char>& row) {
  const Inside part = inside(copy, r);
  std::fill(row.begin(), row.end(), char{0});
  if (part.from)
    std::memcpy(row.data() + static_cast<size_t>(part.first) * kElement, part.from,
                static_cast<size_t>(part.last - part.first) * kElement);
  char* to = copy.to + static_cast<size_t>(r) * row.size();
  for (size_t at = 0; at < row.size(); at += kChunk)
    std::memcpy(copy.map.swizzled ? const_cast<char*>(swizzled(to + at)) : to + at, row.data() + at,
                kChunk);
}

}  // namespace

const char* swizzled(const char* p) {
  const AddressRange range = shared_range_of_all_blocks();
  const size_t offset = range.offset_of(p);
  return range.begin + (offset ^ (offset >> 7 & 7) << 4);
}

bool written_unswizzled(const void* begin, size_t bytes) {
  const auto* first = static_cast<const char*>(begin);
  return std::ranges::any_of(state().written, [&](const WrittenRange& w) {
    return !w.swizzled && w.begin < first + bytes && first < w.end;
  });
}

void fence_async_proxy() { executor().fence_running_thread(); }

void start_bulk_copy(void* to, const CUtensorMap& map, void* barrier, int col, int row,
                     unsigned blocks, Site where) {
  BulkCopy copy{static_cast<char*>(to), content_of(map, where), barrier, col, row, 0, 0, where};
  check_places(copy, where);
  std::vector<BulkCopy> copies = copies_to(blocks, copy);
  note_source(copy);
  for (const BulkCopy& each : copies)
    note_access(each.to, copy.map.box_bytes(), Access::kAsyncWrite, where);
  copy.thread = executor().current().index;
  copy.time = executor().pass_time();
  for (BulkCopy& each : copies) {
    each.thread = copy.thread;
    each.time = copy.time;
    forget_content(each.to, copy.map.box_bytes());
    remember_order(each);
    state().under_way.push_back(each);
  }
}

int64_t bulk_copied_bytes() { return copied_bytes; }

int64_t bulk_copies_under_way() { return static_cast<int64_t>(state().under_way.size()); }

void deliver_bulk_copy(int64_t i) {
  auto& under_way = state().under_way;
  const BulkCopy copy = under_way[static_cast<size_t>(i)];
  under_way.erase(under_way.begin() + i);
  std::vector<char> row(copy.map.row_bytes());
  for (int64_t r = 0; r < copy.map.box_rows; ++r) store_row(copy, r, row);
  if (observer()) observer()->all_defined(copy.to, copy.map.box_bytes());
  complete_bytes(copy.barrier, copy.map.box_bytes(), copy.thread, copy.time, copy.where);
}

void check_bulk_copies_arrived(unsigned block) {
  for (const BulkCopy& copy : state().under_way)
    if (block_of(copy.to) == block)
      violation(copy.where, "the block ends without having waited for this box");
}

void forget_bulk_copies() {
  state().under_way.clear();
  state().written.clear();
}

}  // namespace facet::emulated
