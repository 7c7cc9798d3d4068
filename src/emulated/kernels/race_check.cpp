// The race check: kernels are compiled with -fsanitize=thread, and the calls that the compiler
// inserts at every load and store come here instead of to ThreadSanitizer. What counts as an order
// is CUDA's: barriers order the threads of a block, __syncwarp the lanes of its mask, events and
// synchronisations the operations of streams, an arrival at an mbarrier and a wait for its phase
// two threads, but those of two blocks of a cluster only in what they do to shared memory; the
// cluster's barrier orders all of its threads; nothing but a count that one releases and the other
// waits for orders two other blocks of a grid, and shuffles and votes order nothing. Linked into
// test_kernels_race only; this file is compiled without -fsanitize=thread.
//
// Shadow memory holds a cell for every 2 bytes, the smallest element that kernels share: the last
// write, who has read since, and whether anybody ever wrote. Of device memory it holds two readers.
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "emulated/device/memory.h"
#include "emulated/device/observer.h"
#include "emulated/device/stream.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/counter.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/shared_memory.h"

namespace facet::emulated {
namespace {

constexpr size_t kGranule = 2;
constexpr size_t kPageCells = 2048;
constexpr size_t kPageBytes = kPageCells * kGranule;

// A source location: a return address if the compiler inserted the call, else a site.
struct Place {
  const void* address = nullptr;
  Site site;
};

// Who accessed a cell, at the granularity of ordering: lanes of one warp between two of its
// synchronisations, or an operation of a stream.
struct Touch {
  uint32_t run = 0;  // index of the cluster or operation in `runs`; 0: none
  uint32_t interval = 0;
  uint32_t time = 0;
  uint32_t lanes = 0;
  uint16_t warp = 0;
  bool atomic = false;
  bool async = false;
  bool several_warps = false;  // also other warps of the interval (atomics only)
  bool in_device_memory = false;
  Place place;
};

enum class Content : uint8_t { kUntracked, kGuard, kUndefined, kDefined };

struct Cell {
  Touch write;
  std::array<Touch, 2> reads;
  std::unique_ptr<std::vector<Touch>> more_reads;  // of shared memory, by further warps
  Content content = Content::kUntracked;
};

struct Page {
  std::array<Cell, kPageCells> cells;
};

// One range of addresses and its pages of cells, made when they are first needed.
class Shadow {
 public:
  explicit Shadow(AddressRange range) : range_(range) {
    const size_t bytes = (range.bytes / kPageBytes + 1) * sizeof(Page*);
    char* table = reserve_addresses(bytes);
    const int failed = mprotect(table, bytes, PROT_READ | PROT_WRITE);
    ASSERT(failed == 0, "mprotect of the shadow's table");
    pages_ = reinterpret_cast<Page**>(table);
  }
  bool contains(const void* p) const { return range_.contains(p); }
  // Null for addresses that were never allocated.
  Cell* cell(size_t offset) {
    Page* page = pages_[offset / kPageBytes];
    return page ? &page->cells[offset % kPageBytes / kGranule] : nullptr;
  }
  Cell& make_cell(size_t offset) {
    Page*& page = pages_[offset / kPageBytes];
    if (!page) page = new Page;
    return page->cells[offset % kPageBytes / kGranule];
  }
  size_t offset_of(const void* p) const { return range_.offset_of(p); }
  // Frees whole pages: the cells take ninety times the memory that they shadow.
  void forget(const void* begin, size_t bytes) {
    for (size_t i = offset_of(begin) / kPageBytes, left = bytes / kPageBytes; left > 0; ++i, --left)
      delete std::exchange(pages_[i], nullptr);
  }

 private:
  AddressRange range_;
  Page** pages_;
};

// A cluster of a kernel's blocks, or an operation that is no kernel.
struct Run {
  OperationId operation;
  uint64_t cluster_serial;  // 0: no kernel
};

std::string place_text(const Place& place);

class RaceCheck final : public MemoryObserver {
 public:
  void fresh(const void* begin, size_t bytes) override { reset(begin, bytes, Content::kUndefined); }
  void guard(const void* begin, size_t bytes) override { reset(begin, bytes, Content::kGuard); }
  void closed(const void* begin, size_t bytes) override { device_.forget(begin, bytes); }
  void undefined(const void* begin, size_t bytes) override {
    for_cells(begin, bytes, [](Cell& c) { c.content = Content::kUndefined; });
  }
  void all_defined(const void* begin, size_t bytes) override {
    for_cells(begin, bytes, [](Cell& c) { c.content = Content::kDefined; });
  }
  void copy_defined(const void* to, const void* from, size_t bytes) override {
    for (size_t i = 0; i < bytes; i += kGranule)
      if (const Cell* source = find(static_cast<const char*>(from) + i))
        undefined_or_defined(static_cast<const char*>(to) + i, source->content);
  }
  void operation_access(const void* begin, size_t bytes, Access access, Site where) override {
    // Undefined bytes may be copied; only their use is checked.
    touch(begin, bytes, access, {nullptr, where}, UndefinedReads::kAllowed);
  }
  void thread_access(const void* begin, size_t bytes, Access access, Site where) override {
    touch(begin, bytes, access, {nullptr, where}, UndefinedReads::kErrors);
  }
  void inserted_access(const void* begin, size_t bytes, Access access, const void* address) {
    if (!Executor::instance().in_thread()) return;
    if (!device_.contains(begin) && !shared_.contains(begin)) return;
    touch(begin, bytes, access, {address, Site()}, UndefinedReads::kErrors);
  }

 private:
  enum class UndefinedReads : uint8_t { kAllowed, kErrors };

  Shadow* shadow_of(const void* p) {
    if (device_.contains(p)) return &device_;
    return shared_.contains(p) ? &shared_ : nullptr;
  }
  Cell* find(const void* p) {
    Shadow* shadow = shadow_of(p);
    return shadow ? shadow->cell(shadow->offset_of(p)) : nullptr;
  }
  template <typename Body>
  void for_cells(const void* begin, size_t bytes, const Body& body) {
    Shadow* shadow = shadow_of(begin);
    if (!shadow || bytes == 0) return;
    const size_t first = shadow->offset_of(begin) / kGranule * kGranule;
    const size_t last = shadow->offset_of(begin) + bytes;
    for (size_t offset = first; offset < last; offset += kGranule)
      if (Cell* cell = shadow->cell(offset)) body(*cell);
  }
  void reset(const void* begin, size_t bytes, Content content) {
    Shadow* shadow = shadow_of(begin);
    const size_t first = shadow->offset_of(begin) / kGranule * kGranule;
    const size_t last = shadow->offset_of(begin) + bytes;
    for (size_t offset = first; offset < last; offset += kGranule)
      shadow->make_cell(offset) = Cell{{}, {}, nullptr, content};
  }
  void undefined_or_defined(const void* p, Content content) {
    if (Cell* cell = find(p)) cell->content = content;
  }

  void touch(const void* begin, size_t bytes, Access access, const Place& place,
             UndefinedReads undefined_reads) {
    Touch me = running(access, place);
    me.in_device_memory = device_.contains(begin);
    for_cells(begin, bytes, [&](Cell& cell) {
      if (cell.content == Content::kUntracked) return;
      if (cell.content == Content::kGuard)
        fail("touches memory outside of every array", place, begin);
      const bool reads = is_read(access) || access == Access::kAtomic;
      if (reads && cell.content == Content::kUndefined &&
          undefined_reads == UndefinedReads::kErrors)
        fail("reads unwritten memory", place, begin);
      if (is_async(access)) require_fence(cell.write, me, begin);
      if (is_read(access))
        read(cell, me, begin);
      else
        write(cell, me, begin);
    });
  }

  void read(Cell& cell, const Touch& me, const void* p) {
    if (!ordered(cell.write, me)) race("reads", "wrote", me, cell.write, p);
    const auto merged = [&](Touch& r) {
      if (r.run != me.run || r.interval != me.interval || r.warp != me.warp || r.time != me.time)
        return false;
      r.lanes |= me.lanes;
      return true;
    };
    if (any_read(cell, merged)) return;
    // A read that is done before this one is also done before everything ordered after this one, so
    // it can be dropped. If two of device memory are left they belong to two warps or blocks, and
    // nothing is ordered after both: a third would add nothing. Of shared memory, a write may have
    // waited for some of the warps that read and not for others.
    const auto replaced = [&](Touch& r) {
      if (!ordered(r, me)) return false;
      r = me;
      return true;
    };
    if (any_read(cell, replaced) || me.in_device_memory) return;
    if (!cell.more_reads) cell.more_reads = std::make_unique<std::vector<Touch>>();
    cell.more_reads->push_back(me);
  }
  template <typename Body>
  static bool any_read(Cell& cell, const Body& body) {
    return std::ranges::any_of(cell.reads, body) ||
           (cell.more_reads && std::ranges::any_of(*cell.more_reads, body));
  }

  void write(Cell& cell, const Touch& me, const void* p) {
    any_read(cell, [&](const Touch& r) {
      if (!ordered(r, me)) race("writes", "read", me, r, p);
      return false;
    });
    const bool before = ordered(cell.write, me);
    if (!before && !(me.atomic && cell.write.atomic)) race("writes", "wrote", me, cell.write, p);
    if (before) {
      cell.write = me;
    } else if (cell.write.run != me.run || cell.write.warp != me.warp ||
               cell.write.interval != me.interval) {
      cell.write.several_warps = true;
    } else {
      cell.write.lanes |= me.lanes;
      cell.write.time = me.time;
    }
    cell.reads = {};
    if (cell.more_reads) cell.more_reads->clear();
    cell.content = Content::kDefined;
  }

  // What a thread of this block wrote is seen by copies and products after its fence only.
  void require_fence(const Touch& write, const Touch& me, const void* p) const {
    if (write.run != me.run || write.async || runs_[me.run].cluster_serial == 0) return;
    for (unsigned lane = 0; lane < kLanes; ++lane)
      if ((write.lanes >> lane & 1) &&
          Executor::instance().fiber(write.warp, lane).fenced <= write.time)
        fail(fmt::format("a copy or product uses what thread {} wrote at {} without "
                         "fence_async_proxy()",
                         thread_in_block(write.warp, lane), place_text(write.place))
                 .c_str(),
             me.place, p);
  }

  // Is the earlier access guaranteed to be done before this one?
  bool ordered(const Touch& earlier, const Touch& me) const {
    if (earlier.run == 0) return true;
    const Run &then = runs_[earlier.run], &now = runs_[me.run];
    if (!(then.operation == now.operation)) return ordered_before_running(then.operation);
    if (earlier.run != me.run) return known_of_other_block(earlier, then);
    if (now.cluster_serial == 0) return true;
    Executor& executor = Executor::instance();
    const Fiber& fiber = executor.current();
    const unsigned block = executor.block_of_warp(earlier.warp);
    const bool in_my_block = block == fiber.block;
    if (earlier.interval <
        (in_my_block ? me.interval : executor.interval_of_cluster_barrier(block)))
      return true;
    if (earlier.several_warps || (!in_my_block && me.in_device_memory)) return false;
    for (uint32_t left = earlier.lanes; left != 0; left &= left - 1) {
      const auto lane = static_cast<unsigned>(__builtin_ctz(left));
      const bool is_mine = earlier.warp == fiber.warp && lane == fiber.lane;
      if (!is_mine && earlier.time >= executor.known(earlier.warp, lane)) return false;
    }
    return true;
  }

  // By the count that the blocks take turns by.
  static bool known_of_other_block(const Touch& earlier, const Run& then) {
    if (then.cluster_serial == 0 || earlier.several_warps) return false;
    for (unsigned lane = 0; lane < kLanes; ++lane)
      if ((earlier.lanes >> lane & 1) &&
          !is_known_by_counts(
              {then.cluster_serial, earlier.interval, earlier.time, earlier.warp * kLanes + lane}))
        return false;
    return true;
  }

  Touch running(Access access, const Place& place) {
    const Operation* operation = running_operation();
    Executor& executor = Executor::instance();
    const Run now{operation ? operation->id : OperationId{},
                  executor.in_thread() ? executor.cluster_serial() : 0};
    if (!(runs_.back().operation == now.operation) ||
        runs_.back().cluster_serial != now.cluster_serial)
      runs_.push_back(now);
    Touch touch;
    touch.run = static_cast<uint32_t>(runs_.size() - 1);
    touch.atomic = access == Access::kAtomic;
    touch.async = is_async(access);
    touch.place = place;
    if (now.cluster_serial == 0) return touch;
    const Fiber& fiber = executor.current();
    touch.interval = executor.interval();
    touch.time = executor.warp_time();
    touch.lanes = 1u << fiber.lane;
    touch.warp = static_cast<uint16_t>(fiber.warp);
    return touch;
  }

  static bool in_running_block(unsigned warp) {
    Executor& executor = Executor::instance();
    return executor.block_of_warp(warp) == executor.current().block;
  }
  static unsigned thread_in_block(unsigned warp, unsigned lane) {
    return Executor::instance().thread_in_block(warp * kLanes + lane);
  }

  [[noreturn]] void race(const char* doing, const char* did, const Touch& me, const Touch& other,
                         const void* p) {
    const Run& run = runs_[other.run];
    std::string who = "another operation of a stream";
    if (run.operation == runs_[me.run].operation)
      who = other.run != me.run || !in_running_block(other.warp)
                ? "another block"
                : fmt::format("thread {}",
                              thread_in_block(other.warp,
                                              static_cast<unsigned>(__builtin_ctz(other.lanes))));
    fail(fmt::format("race: {} what {} {} at {}, with no order between them", doing, who, did,
                     place_text(other.place))
             .c_str(),
         me.place, p);
  }

  [[noreturn]] static void fail(const char* what, const Place& place, const void* p) {
    const Error error(ExitCode::kInternal, fmt::format("{}{}: {} (address {})", describe_running(),
                                                       place_text(place), what, p));
    Executor& executor = Executor::instance();
    if (executor.in_thread()) executor.abandon_grid(std::make_exception_ptr(error));
    throw error;
  }

  Shadow device_{device_range()}, shared_{shared_range_of_all_blocks()};
  std::vector<Run> runs_ = {Run{}};
};

RaceCheck* the_check = nullptr;

[[maybe_unused]] const bool installed = [] {
  the_check = new RaceCheck;
  set_observer(the_check);
  return true;
}();

// The line of a return address, by addr2line: only on the way to an error.
std::string line_of(const void* address) {
  uintptr_t load_address = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* program, size_t, void* result) {
        *static_cast<uintptr_t*>(result) = program->dlpi_addr;
        return 1;  // the first is the program itself
      },
      &load_address);
  const std::string command = fmt::format("addr2line -e /proc/{}/exe {:#x}", getpid(),
                                          reinterpret_cast<uintptr_t>(address) - 1 - load_address);
  char line[512] = "";
  if (FILE* pipe = popen(command.c_str(), "r")) {
    if (!std::fgets(line, sizeof line, pipe)) line[0] = 0;
    pclose(pipe);
  }
  line[std::strcspn(line, " \n")] = 0;  // a discriminator follows after a space
  return line[0] ? line : fmt::format("{}", address);
}

std::string place_text(const Place& place) {
  return place.address ? line_of(place.address) : text_of(place.site);
}

void inserted(const void* p, size_t bytes, Access access, const void* address) {
  if (the_check) the_check->inserted_access(p, bytes, access, address);
}

}  // namespace
}  // namespace facet::emulated

// ---- what the compiler calls

using facet::emulated::Access;
using facet::emulated::inserted;

#define FACET_INSERTED(name, bytes, access)                          \
  extern "C" void __tsan_##name(void* p) {                           \
    inserted(p, bytes, Access::access, __builtin_return_address(0)); \
  }
#define FACET_INSERTED_SIZE(bytes)                      \
  FACET_INSERTED(read##bytes, bytes, kRead)             \
  FACET_INSERTED(write##bytes, bytes, kWrite)           \
  FACET_INSERTED(unaligned_read##bytes, bytes, kRead)   \
  FACET_INSERTED(unaligned_write##bytes, bytes, kWrite) \
  FACET_INSERTED(volatile_read##bytes, bytes, kRead)    \
  FACET_INSERTED(volatile_write##bytes, bytes, kWrite)

FACET_INSERTED_SIZE(1)
FACET_INSERTED_SIZE(2)
FACET_INSERTED_SIZE(4)
FACET_INSERTED_SIZE(8)
FACET_INSERTED_SIZE(16)

extern "C" void __tsan_read_range(void* p, size_t bytes) {
  inserted(p, bytes, Access::kRead, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* p, size_t bytes) {
  inserted(p, bytes, Access::kWrite, __builtin_return_address(0));
}
extern "C" void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  inserted(from, bytes, Access::kRead, __builtin_return_address(0));
  inserted(to, bytes, Access::kWrite, __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}
extern "C" void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  inserted(from, bytes, Access::kRead, __builtin_return_address(0));
  inserted(to, bytes, Access::kWrite, __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}
extern "C" void* __tsan_memset(void* to, int value, size_t bytes) {
  inserted(to, bytes, Access::kWrite, __builtin_return_address(0));
  return std::memset(to, value, bytes);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
