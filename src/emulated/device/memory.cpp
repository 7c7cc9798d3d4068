#include "emulated/device/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <vector>

#include "base/check.h"
#include "emulated/device/fault.h"
#include "emulated/device/observer.h"
#include "emulated/device/poison.h"
#include "emulated/device/violation.h"

namespace facet::emulated {
namespace {

constexpr size_t kRangeBytes = size_t{1} << 36;  // addresses, not memory
constexpr size_t kPage = 4096;
constexpr unsigned char kUndefinedByte = 0xff;
constexpr uint16_t kGuardWord = 0x7fff;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

struct Heap {
  char* base = reserve_addresses(kRangeBytes);
  size_t used = kPage;                            // the first page stays inaccessible
  std::map<const char*, Allocation> allocations;  // by address; freed ones stay, for the messages
  std::vector<Allocation*> live;
  int open = 0;

  // The pages of an allocation with its guard bands.
  static char* pages_of(const Allocation& a) { return a.data - kGuardBytes; }
  static size_t page_bytes(const Allocation& a) {
    return round_up(a.bytes + 2 * kGuardBytes, kPage);
  }
  static void protect(const Allocation& a, int access) {
    const int failed = mprotect(pages_of(a), page_bytes(a), access);
    ASSERT(failed == 0, "mprotect of {} bytes", page_bytes(a));
  }
  Allocation& at(const void* data, const char* what, Site where) {
    const auto found = allocations.find(static_cast<const char*>(data));
    if (found == allocations.end())
      violation(where, "{} of {}, which is the start of no allocation", what, data);
    return found->second;
  }
};

Heap& heap() {
  static Heap* const the_heap = [] {
    install_fault_handler();
    return new Heap;  // never destroyed: objects with device memory may outlive it otherwise
  }();
  return *the_heap;
}

void check_band(const Allocation& a, const char* begin, const char* side) {
  if (guard_intact(begin, kGuardBytes)) return;
  throw_violation(fmt::format("wrote outside device memory: {} the {} bytes allocated at {}", side,
                              a.bytes, text_of(a.where)));
}

// Maps the addresses anew, so that Linux merges them with their neighbours into one mapping: the
// number of mappings per process is limited.
void close_for_good(void* begin, size_t bytes) {
  void* closed =
      mmap(begin, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  ASSERT(closed == begin, "mmap of {} bytes", bytes);
}

}  // namespace

char* reserve_addresses(size_t bytes) {
  void* begin = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(begin != MAP_FAILED, ExitCode::kInternal,
        "the emulated device cannot reserve {} GiB of addresses: lift `ulimit -v`", bytes >> 30);
  return static_cast<char*>(begin);
}

void fill_undefined(void* begin, size_t bytes) { std::memset(begin, kUndefinedByte, bytes); }

void fill_guard(void* begin, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    static_cast<char*>(begin)[i] = static_cast<char>(kGuardWord >> (8 * (i % 2)));
}

bool guard_intact(const void* begin, size_t bytes) {
  static const auto* const expected = [] {
    static char band[kGuardBytes];
    fill_guard(band, sizeof band);
    return band;
  }();
  ASSERT(bytes <= kGuardBytes, "a guard band of {} bytes", bytes);
  return std::memcmp(begin, expected, bytes) == 0;
}

void* reserve_device_memory(size_t bytes, Site where) {
  Heap& h = heap();
  char* data = h.base + h.used + kGuardBytes;
  const Allocation allocation{data, bytes, Allocation::State::kReserved, where};
  CHECK(h.used + Heap::page_bytes(allocation) + kPage <= kRangeBytes, ExitCode::kConfig,
        "the emulated device has no {} bytes left ({}): its {} GiB of addresses are used once",
        bytes, text_of(where), kRangeBytes >> 30);
  h.used += Heap::page_bytes(allocation) + kPage;  // an inaccessible page after each
  h.allocations.emplace(data, allocation);
  return data;
}

void make_live(void* data) {
  Heap& h = heap();
  Allocation& a = h.at(data, "use", Site::current());
  ASSERT(a.state == Allocation::State::kReserved, "an allocation was made live twice");
  Heap::protect(a, PROT_READ | PROT_WRITE);
  // Fewer page table entries to change around every operation.
  madvise(Heap::pages_of(a), Heap::page_bytes(a), MADV_HUGEPAGE);
  fill_guard(Heap::pages_of(a), kGuardBytes);
  fill_undefined(a.data, a.bytes);
  char* after = a.data + a.bytes;
  const size_t rest = static_cast<size_t>(Heap::pages_of(a) + Heap::page_bytes(a) - after);
  fill_guard(after, rest);
  poison(Heap::pages_of(a), kGuardBytes);
  poison(after, rest);
  if (observer()) {
    observer()->fresh(a.data, a.bytes);
    observer()->guard(Heap::pages_of(a), kGuardBytes);
    observer()->guard(after, rest);
  }
  a.state = Allocation::State::kLive;
  h.live.push_back(&a);
  if (h.open == 0) Heap::protect(a, PROT_NONE);
}

void check_freeable(const void* data, Site where) {
  const Allocation& a = heap().at(data, "free", where);
  if (a.state == Allocation::State::kFreed)
    violation(where, "freed twice, first at {}", text_of(a.where));
}

void free_device_memory(void* data, Site where) {
  check_freeable(data, where);
  Allocation& a = heap().at(data, "free", where);
  if (observer()) observer()->operation_access(a.data, a.bytes, Access::kWrite, where);
  close_for_good(Heap::pages_of(a), Heap::page_bytes(a));
  poison(Heap::pages_of(a), Heap::page_bytes(a));
  if (observer()) observer()->closed(Heap::pages_of(a), Heap::page_bytes(a));
  a.state = Allocation::State::kFreed;
  a.where = where;
  std::erase(heap().live, &a);
}

const Allocation* find_allocation(const void* address) {
  if (!in_device_range(address)) return nullptr;
  const auto& all = heap().allocations;
  auto after = all.upper_bound(static_cast<const char*>(address));
  return after == all.begin() ? nullptr : &std::prev(after)->second;
}

bool in_device_range(const void* address) { return device_range().contains(address); }

void check_device_range(const void* begin, size_t bytes, const char* what, Site where) {
  const Allocation* a = find_allocation(begin);
  if (!a) violation(where, "{} is {}, which is no device memory", what, begin);
  if (a->state == Allocation::State::kFreed)
    violation(where, "{} is device memory that was freed at {}", what, text_of(a->where));
  const size_t offset = static_cast<size_t>(static_cast<const char*>(begin) - a->data);
  if (offset + bytes > a->bytes)
    violation(where, "{}: bytes [{}, {}) of the {} allocated at {}", what, offset, offset + bytes,
              a->bytes, text_of(a->where));
}

void forget_content(void* begin, size_t bytes) {
  fill_undefined(begin, bytes);
  if (observer()) observer()->undefined(begin, bytes);
}

void check_device_guards() {
  for (const Allocation* a : heap().live) {
    unpoison(a->data - kGuardBytes, a->bytes + 2 * kGuardBytes);
    check_band(*a, a->data - kGuardBytes, "before");
    check_band(*a, a->data + a->bytes, "after");
    poison(a->data - kGuardBytes, kGuardBytes);
    poison(a->data + a->bytes, kGuardBytes);
  }
}

int64_t live_allocations() { return static_cast<int64_t>(heap().live.size()); }

int64_t allocations_made() { return static_cast<int64_t>(heap().allocations.size()); }

OpenDeviceMemory::OpenDeviceMemory() {
  Heap& h = heap();
  if (h.open++ > 0) return;
  for (const Allocation* a : h.live) Heap::protect(*a, PROT_READ | PROT_WRITE);
}

OpenDeviceMemory::~OpenDeviceMemory() {
  Heap& h = heap();
  if (--h.open > 0) return;
  for (const Allocation* a : h.live) Heap::protect(*a, PROT_NONE);
}

bool device_memory_is_open() { return heap().open > 0; }

void reset_device_memory() {
  for (auto& [data, a] : heap().allocations)
    if (a.state != Allocation::State::kFreed) free_device_memory(a.data, Site::current());
}

AddressRange device_range() { return {heap().base, kRangeBytes}; }

}  // namespace facet::emulated
