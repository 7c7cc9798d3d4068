#include "emulated/kernels/mbarrier.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "emulated/device/violation.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/executor.h"
#include "emulated/kernels/shared_memory.h"

namespace facet::emulated {
namespace {

constexpr size_t kBytes = 8;
constexpr unsigned kLimit = 1 << 20;  // of arrivals, and of announced bytes

struct Mbarrier {
  void* address;
  unsigned arrivals;  // that complete a phase
  unsigned pending;   // of the running phase
  int64_t bytes = 0;  // announced and not there yet
  uint64_t phase = 0;
  unsigned owner;  // the thread that initialised it
  uint32_t time;   // and when
  bool published = false;
  ThreadTimes released{}, released_before{};  // by the running phase, and by the last complete one
};

std::deque<Mbarrier>& barriers() {
  static auto* const of_cluster = new std::deque<Mbarrier>;
  return *of_cluster;
}

Executor& executor() { return Executor::instance(); }

Mbarrier* find(const void* address) {
  for (Mbarrier& b : barriers())
    if (b.address == address) return &b;
  return nullptr;
}

Mbarrier& mbarrier_at(void* address, Site where) {
  if (Mbarrier* b = find(address)) return *b;
  violation(where, "no mbarrier was initialised at {}", address);
}

// Of a block that the running thread knows to have initialised it.
Mbarrier& mbarrier_of_cluster(void* address, Site where) {
  const unsigned block = block_of(address);
  if (block == executor().current().block) return mbarrier_at(address, where);
  Mbarrier* const b = find(address);
  if (!b || !executor().knows(b->owner, b->time))
    violation(where, "block {} of the cluster may not have initialised this mbarrier yet", block);
  return *b;
}

bool is_complete(const Mbarrier& b, unsigned parity) { return (b.phase & 1) != parity; }

void complete_if_all_is_there(Mbarrier& b) {
  if (b.pending > 0 || b.bytes != 0) return;
  ++b.phase;
  b.pending = b.arrivals;
  b.released_before = std::move(b.released);
  b.released.clear();
  executor().wake_waiting(b.address, [&b](Fiber& fiber) {
    if (!is_complete(b, fiber.parity)) return false;
    executor().acquire(fiber, b.released_before);
    return true;
  });
}

}  // namespace

void init_mbarrier(void* barrier, unsigned arrivals, Site where) {
  require_alignment(barrier, kBytes, "an mbarrier", where);
  if (!shared_range().contains(barrier))
    violation(where, "an mbarrier that is not in shared memory");
  if (arrivals == 0 || arrivals >= kLimit) violation(where, "an mbarrier of {} arrivals", arrivals);
  if (find(barrier)) violation(where, "an mbarrier is initialised twice");
  note_access(barrier, kBytes, Access::kWrite, where);
  std::memset(barrier, 0, kBytes);
  Mbarrier b{};
  b.address = barrier;
  b.arrivals = b.pending = arrivals;
  b.owner = executor().current().index;
  b.time = executor().warp_time();
  barriers().push_back(std::move(b));
}

void publish_mbarriers() {
  for (Mbarrier& b : barriers())
    if (b.owner == executor().current().index) b.published = true;
}

void arrive_at_mbarrier(void* barrier, unsigned expected_bytes, Site where) {
  Mbarrier& b = mbarrier_of_cluster(barrier, where);
  note_access(barrier, kBytes, Access::kAtomic, where);
  if (b.pending == 0)
    violation(where, "an arrival too many: the mbarrier has had its {} and waits for {} bytes",
              b.arrivals, b.bytes);
  b.bytes += expected_bytes;
  if (b.bytes >= kLimit) violation(where, "{} bytes are announced, 2^20 - 1 are the most", b.bytes);
  executor().release(b.released);
  --b.pending;
  complete_if_all_is_there(b);
}

void arrive_in_cluster(void* barrier, unsigned block, Site where) {
  if (block >= executor().blocks())
    violation(where, "an arrival in block {} of a cluster of {}", block, executor().blocks());
  executor().note_access_to(block, "an arrival at", where);
  arrive_at_mbarrier(in_block(barrier, block), 0, where);
}

void wait_for_mbarrier(void* barrier, unsigned parity, Site where) {
  Mbarrier& b = mbarrier_at(barrier, where);
  note_access(barrier, kBytes, Access::kAtomic, where);
  if (parity > 1) violation(where, "a phase of parity {}", parity);
  if (is_complete(b, parity)) {
    executor().acquire(executor().current(), b.released_before);
    return;
  }
  // Who has been woken looks again: the phase after may be complete by then, too, and the parity
  // what it was.
  do executor().wait_at(b.address, parity, where);
  while (!is_complete(b, parity));
}

void require_published_mbarrier(void* barrier, Site where) {
  const Mbarrier& b = mbarrier_of_cluster(barrier, where);
  if (!b.published)
    violation(where, "the mbarrier of a copy was initialised without fence_barrier_init()");
}

void complete_bytes(void* barrier, size_t bytes, unsigned thread, uint32_t time, Site where) {
  Mbarrier& b = mbarrier_at(barrier, where);
  b.bytes -= static_cast<int64_t>(bytes);
  if (b.pending == 0 && b.bytes < 0)
    violation(where, "a copy brings {} bytes more than were announced at its mbarrier", -b.bytes);
  executor().release_for(b.released, thread, time);
  complete_if_all_is_there(b);
}

void forget_mbarriers() { barriers().clear(); }

MissingAtMbarrier missing_at_mbarrier(const void* barrier) {
  const Mbarrier* b = find(barrier);
  return b ? MissingAtMbarrier{b->pending, b->bytes} : MissingAtMbarrier{};
}

}  // namespace facet::emulated
