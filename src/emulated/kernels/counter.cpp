#include "emulated/kernels/counter.h"

#include <map>
#include <memory>
#include <vector>

#include "emulated/device/violation.h"
#include "emulated/kernels/access.h"
#include "emulated/kernels/executor.h"

namespace facet::emulated {
namespace {

// What a release makes known of its block.
struct Release {
  uint32_t interval;  // everything before it
  ThreadTimes times;
};
using Releases = std::map<uint64_t, Release>;  // by block, its last one

// A thread of the running block had these releases before what it did at this time and later.
struct Acquired {
  unsigned warp, lane;
  uint32_t interval, time;
  std::shared_ptr<const Releases> releases;
};

struct Counters {
  std::map<const int32_t*, std::shared_ptr<const Releases>> released;
  std::vector<Acquired> acquired;
};

Counters& counters() {
  static auto* const of_grid = new Counters;
  return *of_grid;
}

Executor& executor() { return Executor::instance(); }

FACET_NOT_RACE_CHECKED int32_t value_of(const int32_t* counter) { return *counter; }
FACET_NOT_RACE_CHECKED void set_value(int32_t* counter, int32_t count) { *counter = count; }

void note(const int32_t* counter, Site where) {
  if (executor().blocks() > 1)
    violation(where, "counters in a kernel with clusters are not modelled");
  require_alignment(counter, sizeof *counter, "a counter", where);
  note_access(counter, sizeof *counter, Access::kAtomic, where);
}

bool knows(const Acquired& acquired) {
  const Fiber& me = executor().current();
  if (acquired.interval < executor().interval()) return true;
  if (acquired.warp == me.warp && acquired.lane == me.lane) return true;
  return executor().known(acquired.warp, acquired.lane) > acquired.time;
}

bool covers(const Releases& releases, const ElsewhereDone& done) {
  const auto release = releases.find(done.block_serial);
  if (release == releases.end()) return false;
  return done.interval < release->second.interval || done.time < release->second.times[done.thread];
}

}  // namespace

void await_count(const int32_t* counter, int32_t count, Site where) {
  note(counter, where);
  if (value_of(counter) > count)
    violation(where, "waits for a count of {}, which is {} already", count, value_of(counter));
  while (value_of(counter) != count) executor().wait_at_counter(counter, count, where);
  const auto released = counters().released.find(counter);
  if (released == counters().released.end()) return;
  const Fiber& me = executor().current();
  counters().acquired.push_back(
      {me.warp, me.lane, executor().interval(), executor().warp_time(), released->second});
}

void release_count(int32_t* counter, int32_t count, Site where) {
  note(counter, where);
  set_value(counter, count);
  executor().wake_counting(counter, count);
  if (!observer()) return;
  auto& released = counters().released[counter];
  auto releases = std::make_shared<Releases>(released ? *released : Releases());
  Release& mine = (*releases)[executor().cluster_serial()];
  mine.interval = executor().interval();
  executor().release(mine.times);
  released = std::move(releases);
}

bool is_known_by_counts(const ElsewhereDone& done) {
  const auto& acquired = counters().acquired;
  for (auto last = acquired.rbegin(); last != acquired.rend(); ++last)
    if (covers(*last->releases, done) && knows(*last)) return true;
  return false;
}

void forget_counters() { counters() = {}; }
void forget_acquired_counts() { counters().acquired.clear(); }

}  // namespace facet::emulated
