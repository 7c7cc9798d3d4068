#include "emulated/kernels/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"
#include "emulated/device/devices.h"
#include "emulated/device/fault.h"
#include "emulated/device/memory.h"
#include "emulated/device/poison.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/bulk_copy.h"
#include "emulated/kernels/counter.h"
#include "emulated/kernels/cp_async.h"
#include "emulated/kernels/mbarrier.h"
#include "emulated/kernels/sanitizer_fibers.h"
#include "emulated/kernels/shared_memory.h"
#include "emulated/kernels/warpgroup.h"

namespace facet::emulated {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kStackGuard = 1 << 20;  // inaccessible addresses below; a frame may be large
constexpr unsigned kMaxThreads = 1024;
constexpr size_t kEntryBytes = 4096;  // the frames that a finished thread leaves on its stack

// Of the scheduling thread; AddressSanitizer provides them at the first switch.
const void* scheduler_bottom = nullptr;
size_t scheduler_bytes = 0;

char* make_stack() {
  char* pages = reserve_addresses(kStackBytes + kStackGuard);
  explain_faults_in(pages, kStackGuard, "a thread of a kernel filled its stack of 256 KiB");
  const int failed = mprotect(pages + kStackGuard, kStackBytes, PROT_READ | PROT_WRITE);
  ASSERT(failed == 0, "mprotect of a stack");
  return pages + kStackGuard;
}

std::string index_text(uint3 index) { return fmt::format("({},{},{})", index.x, index.y, index.z); }

std::string describe_running_thread() {
  if (!Executor::instance().in_thread()) return "";
  return "block " + index_text(blockIdx) + " thread " + index_text(threadIdx) + ": ";
}

std::string describe_waiting(const Fiber& fiber) {
  switch (fiber.state) {
    case Fiber::State::kFinished: return "has finished";
    case Fiber::State::kAtBarrier: return "waits at the barrier " + text_of(fiber.where);
    case Fiber::State::kAtClusterBarrier:
      return "waits at the barrier of its cluster " + text_of(fiber.where);
    case Fiber::State::kInMeeting:
      return fmt::format("waits in {} {} with mask {:#010x}", fiber.meeting_name,
                         text_of(fiber.where), fiber.mask);
    case Fiber::State::kAtPhase: {
      const auto [arrivals, bytes] = missing_at_mbarrier(fiber.mbarrier);
      return fmt::format(
          "waits at {} for a phase of parity {}, which lacks {} arrivals and {} bytes",
          text_of(fiber.where), fiber.parity, arrivals, bytes);
    }
    case Fiber::State::kAtCount:
      return fmt::format("waits at {} for a count of {}, which no block that has started brings",
                         text_of(fiber.where), fiber.count);
    case Fiber::State::kReady: break;
  }
  return "is ready";
}

// Whether all of them wait in this state, but those that have finished, and at least one does.
bool all_wait(std::span<Fiber* const> fibers, Fiber::State state) {
  bool any = false;
  for (const Fiber* f : fibers) {
    if (f->state != state && f->state != Fiber::State::kFinished) return false;
    any |= f->state == state;
  }
  return any;
}

// All of them must be at the same barrier. Hardware may let it pass where one has finished, with
// undefined results.
void check_same_barrier(std::span<Fiber* const> fibers) {
  const auto has_finished = [](const Fiber* f) { return f->state == Fiber::State::kFinished; };
  const Fiber& first = **std::ranges::find_if_not(fibers, has_finished);
  const auto other = std::ranges::find_if(fibers, [&](const Fiber* f) {
    return !has_finished(f) && !same_site(f->where, first.where);
  });
  if (other != fibers.end())
    throw_violation(fmt::format("divergent barrier: thread {} {}, thread {} {}",
                                index_text(first.thread), describe_waiting(first),
                                index_text((*other)->thread), describe_waiting(**other)));
  const auto gone = std::ranges::find_if(fibers, has_finished);
  if (gone != fibers.end())
    throw_violation(fmt::format("exit before a barrier: thread {} has finished, thread {} {}",
                                index_text((*gone)->thread), index_text(first.thread),
                                describe_waiting(first)));
}

void merge(ThreadTimes& clock, const ThreadTimes& other) {
  if (clock.empty()) clock.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

}  // namespace

Executor& Executor::instance() {
  static Executor* const the_executor = [] {
    set_thread_description(describe_running_thread);
    return new Executor;
  }();
  return *the_executor;
}

void set_execution_order(ExecutionOrder order) {
  Executor& executor = Executor::instance();
  executor.order_ = order;
  executor.random_ = RandomStream(order.seed, "threads");
}

void Executor::check_limits(Site where) const {
  const auto [grid, block, shared, cluster] = shape_;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || block.z > 64)
    violation(where, "a block of {} x {} x {} threads", block.x, block.y, block.z);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535 ||
      grid.z > 65535)
    violation(where, "a grid of {} x {} x {} blocks", grid.x, grid.y, grid.z);
  if (cluster == 0 || cluster > kMostClusterBlocks)
    violation(where, "a cluster of {} blocks, {} are the most", cluster, kMostClusterBlocks);
  if (grid.x % cluster != 0)
    violation(where, "a grid of {} blocks, which is no multiple of a cluster's {}", grid.x,
              cluster);
  if (shared > max_shared_bytes())
    violation(where, "{} bytes of dynamic shared memory, {} are the most", shared,
              max_shared_bytes());
}

void Executor::make_fibers() {
  constexpr unsigned kWarpgroup = 4 * kLanes;
  block_stride_ = (threads_ + kWarpgroup - 1) / kWarpgroup * kWarpgroup;
  while (fibers_.size() < size_t{blocks_} * block_stride_) {
    fibers_.push_back(std::make_unique<Fiber>());
    fibers_.back()->stack = make_stack();
  }
  threads_of_cluster_.clear();
  for (unsigned block = 0; block < blocks_; ++block)
    for (unsigned i = 0; i < threads_; ++i)
      threads_of_cluster_.push_back(fibers_[block * block_stride_ + i].get());
}

void Executor::run(const GridShape& shape, const std::function<void()>& body, Site where) {
  shape_ = shape;
  check_limits(where);
  body_ = &body;
  blockDim = shape.block;
  gridDim = shape.grid;
  threads_ = shape.block.x * shape.block.y * shape.block.z;
  blocks_ = shape.cluster;
  make_fibers();
  forget_counters();
  warp_syncs_.assign(blocks_ * block_stride_ / kLanes, 0);
  turn_ = threads_of_cluster_;
  if (order_.order == ThreadOrder::kReverse) std::reverse(turn_.begin(), turn_.end());

  const int64_t clusters = int64_t{shape.grid.x} * shape.grid.y * shape.grid.z / blocks_;
  std::vector<int64_t> order(static_cast<size_t>(clusters));
  std::iota(order.begin(), order.end(), 0);
  if (order_.order == ThreadOrder::kReverse) std::reverse(order.begin(), order.end());
  if (order_.order == ThreadOrder::kRandom)
    order = random_permutation(clusters, RandomStream(random_.next_u64(), "blocks"));
  for (const int64_t cluster : order) run_cluster(static_cast<uint64_t>(cluster) * blocks_);
}

void Executor::run_cluster(uint64_t first_block) {
  for (unsigned block = 0; block < blocks_; ++block) {
    const uint64_t index = first_block + block;
    block_indices_[block] = {static_cast<unsigned>(index % gridDim.x),
                             static_cast<unsigned>(index / gridDim.x % gridDim.y),
                             static_cast<unsigned>(index / gridDim.x / gridDim.y)};
  }
  ++cluster_serial_;
  intervals_.fill(0);
  synced_.fill(0);
  running_.fill(threads_);
  accesses_to_blocks_.clear();
  std::fill(warp_syncs_.begin(), warp_syncs_.end(), 0u);
  const SharedMemoryOfCluster shared;
  forget_mbarriers();
  forget_acquired_counts();
  forget_bulk_copies();
  forget_warpgroups();
  start_threads();
  const auto finished = [](const Fiber* f) { return f->state == Fiber::State::kFinished; };
  while (!std::ranges::all_of(threads_of_cluster_, finished)) {
    if (run_ready_threads(Punctuality::kInTime) || release_a_barrier()) continue;
    if (bulk_copies_under_way() > 0)
      deliver_a_copy();
    else if (!run_ready_threads(Punctuality::kLate))
      report_deadlock();
  }
  threads_were_abandoned_ = false;
  check_known_accesses();
  check_warpgroups_agree();
  shared.check_guards();
}

void Executor::start_threads() {
  for (unsigned n = 0; n < blocks_ * threads_; ++n) {
    Fiber& f = *threads_of_cluster_[n];
    const unsigned i = n % threads_;
    f.block = n / threads_;
    f.index = f.block * block_stride_ + i;
    f.warp = f.index / kLanes;
    f.lane = f.index % kLanes;
    f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    f.state = Fiber::State::kReady;
    f.sanitizer_stack = nullptr;
    f.uncommitted.clear();
    f.groups.clear();
    f.seen.fill(0);
    f.elsewhere.clear();
    f.fenced = 0;
    const size_t left_behind = threads_were_abandoned_ ? kStackBytes : kEntryBytes;
    unpoison(f.stack + kStackBytes - left_behind, left_behind);
    f.context.prepare(f.stack, kStackBytes, &Executor::fiber_main);
  }
  threads_were_abandoned_ = true;  // until the block is done
}

Executor::Punctuality Executor::punctuality_of(const Fiber& fiber) const {
  const bool is_late =
      (order_.order == ThreadOrder::kLateWarp && fiber.warp == order_.late_warp) ||
      (order_.order == ThreadOrder::kLateBlock && fiber.block == order_.late_block);
  return is_late ? Punctuality::kLate : Punctuality::kInTime;
}

// One turn: every such thread that can run does so until it waits or ends. Returns false if none
// could.
bool Executor::run_ready_threads(Punctuality punctuality) {
  if (order_.order == ThreadOrder::kRandom)
    for (size_t i = turn_.size(); i > 1; --i) std::swap(turn_[i - 1], turn_[random_.below(i)]);
  bool any = false;
  for (Fiber* const f : turn_) {
    if (f->state != Fiber::State::kReady) continue;
    if (punctuality_of(*f) != punctuality) continue;
    resume(*f);
    any = true;
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  return any;
}

// No thread can go on without one of the copies that are under way.
void Executor::deliver_a_copy() {
  const int64_t count = bulk_copies_under_way();
  switch (order_.order) {
    case ThreadOrder::kForward:
    case ThreadOrder::kLateWarp:
    case ThreadOrder::kLateBlock: return deliver_bulk_copy(0);
    case ThreadOrder::kReverse: return deliver_bulk_copy(count - 1);
    case ThreadOrder::kRandom:
      return deliver_bulk_copy(static_cast<int64_t>(random_.below(static_cast<uint64_t>(count))));
  }
}

void Executor::resume(Fiber& fiber) {
  current_ = &fiber;
  threadIdx = fiber.thread;
  blockIdx = block_indices_[fiber.block];
  void* handle = nullptr;
  leave_stack(&handle, fiber.stack, kStackBytes);
  scheduler_.swap_to(fiber.context);
  arrive_on_stack(handle, nullptr, nullptr);
  current_ = nullptr;
  const bool ends_block = fiber.state == Fiber::State::kFinished && --running_[fiber.block] == 0;
  if (ends_block && !failure_) check_bulk_copies_arrived(fiber.block);
}

void Executor::suspend() {
  Fiber& fiber = *current_;
  const bool for_ever = fiber.state == Fiber::State::kFinished;
  leave_stack(for_ever ? nullptr : &fiber.sanitizer_stack, scheduler_bottom, scheduler_bytes);
  fiber.context.swap_to(scheduler_);
  arrive_on_stack(fiber.sanitizer_stack, nullptr, nullptr);
}

void Executor::fiber_main() {
  arrive_on_stack(nullptr, &scheduler_bottom, &scheduler_bytes);
  Executor& executor = instance();
  try {
    (*executor.body_)();
    check_copies_awaited(*executor.current_);
  } catch (...) {
    executor.failure_ = std::current_exception();
  }
  executor.current_->state = Fiber::State::kFinished;
  executor.suspend();
}

void Executor::abandon_grid(std::exception_ptr failure) {
  failure_ = std::move(failure);
  current_->state = Fiber::State::kFinished;
  suspend();
  std::abort();  // a finished thread is never resumed
}

// ---- the barrier of the block

int Executor::block_barrier(Vote vote, int ballot, Site where) {
  Fiber& f = *current_;
  f.state = Fiber::State::kAtBarrier;
  f.where = where;
  f.vote = vote;
  f.ballot = ballot != 0;
  suspend();
  return f.vote_result;
}

void Executor::cluster_barrier(Site where) {
  current_->state = Fiber::State::kAtClusterBarrier;
  current_->where = where;
  suspend();
}

bool Executor::release_a_barrier() {
  for (unsigned block = 0; block < blocks_; ++block)
    if (all_wait(fibers_of_block(block), Fiber::State::kAtBarrier)) {
      release_barrier(block);
      return true;
    }
  const bool all = all_wait(threads_of_cluster_, Fiber::State::kAtClusterBarrier);
  if (all) release_cluster_barrier();
  return all;
}

void Executor::release_barrier(unsigned block) {
  const Fibers fibers = fibers_of_block(block);
  check_same_barrier(fibers);
  int yes = 0;
  for (const Fiber* f : fibers) yes += f->ballot;
  ++intervals_[block];
  if (blocks_ > 1) make_known(fibers);
  for (Fiber* f : fibers) {
    f->state = Fiber::State::kReady;
    switch (f->vote) {
      case Vote::kNone: break;
      case Vote::kCount: f->vote_result = yes; break;
      case Vote::kAnd: f->vote_result = yes == static_cast<int>(threads_); break;
      case Vote::kOr: f->vote_result = yes > 0; break;
    }
  }
}

void Executor::release_cluster_barrier() {
  check_same_barrier(threads_of_cluster_);
  for (unsigned block = 0; block < blocks_; ++block) synced_[block] = ++intervals_[block];
  make_known(threads_of_cluster_);
  for (Fiber* f : threads_of_cluster_) f->state = Fiber::State::kReady;
}

// To each what all of them know and have done: between threads of one block the interval says so,
// but not what another block may learn from them.
void Executor::make_known(Fibers fibers) {
  ThreadTimes all(fibers_.size() + kLanes);
  for (const Fiber* f : fibers) {
    merge(all, f->elsewhere);
    for (unsigned lane = 0; lane < kLanes; ++lane)
      release_for(all, f->warp * kLanes + lane, f->seen[lane]);
  }
  for (const Fiber* f : fibers) {
    if (f->lane == 0) ++warp_syncs_[f->warp];
    all[f->index] = warp_syncs_[f->warp];
  }
  for (Fiber* f : fibers) acquire(*f, all);
}

// ---- meetings of a warp

bool Executor::meeting_is_complete(const Fiber& fiber) const {
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(fiber.mask >> lane & 1)) continue;
    const Fiber& other = *fibers_[fiber.warp * kLanes + lane];
    if (other.state != Fiber::State::kInMeeting || other.complete != fiber.complete ||
        other.mask != fiber.mask || !same_site(other.where, fiber.where))
      return false;
  }
  return true;
}

void Executor::meet_warp(const char* name, unsigned mask, void* argument, CompleteMeeting complete,
                         Site where) {
  Fiber& f = *current_;
  if (!(mask >> f.lane & 1))
    violation(where, "lane {} calls {} with the mask {:#010x}, which does not name it", f.lane,
              name, mask);
  const unsigned lanes = std::min(kLanes, threads_ - (f.warp - first_warp()) * kLanes);
  if (lanes < kLanes && mask >> lanes)
    violation(where, "{} with the mask {:#010x}, the warp has {} lanes", name, mask, lanes);
  f.state = Fiber::State::kInMeeting;
  f.where = where;
  f.meeting_name = name;
  f.mask = mask;
  f.argument = argument;
  f.complete = complete;
  if (!meeting_is_complete(f)) return suspend();

  WarpMeeting meeting{mask, where};
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1) meeting.arguments[lane] = fibers_[f.warp * kLanes + lane]->argument;
  complete(meeting);
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1) fibers_[f.warp * kLanes + lane]->state = Fiber::State::kReady;
}

void Executor::order_lanes(unsigned mask) {
  const unsigned first = current_->warp * kLanes;
  const uint32_t now = ++warp_syncs_[current_->warp];
  std::array<uint32_t, kLanes> seen{};
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const auto& of_lane = fibers_[first + lane]->seen;
    for (unsigned l = 0; l < kLanes; ++l) seen[l] = std::max(seen[l], of_lane[l]);
  }
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1) seen[lane] = now;
  ThreadTimes elsewhere;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    if (mask >> lane & 1) merge(elsewhere, fibers_[first + lane]->elsewhere);
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    fibers_[first + lane]->seen = seen;
    fibers_[first + lane]->elsewhere = elsewhere;
  }
}

// ---- mbarriers

void Executor::wait_at(const void* mbarrier, unsigned parity, Site where) {
  Fiber& f = *current_;
  f.state = Fiber::State::kAtPhase;
  f.where = where;
  f.mbarrier = mbarrier;
  f.parity = parity;
  suspend();
}

void Executor::wake_waiting(const void* mbarrier, const std::function<bool(Fiber&)>& may_go) {
  for (Fiber* const f : threads_of_cluster_)
    if (f->state == Fiber::State::kAtPhase && f->mbarrier == mbarrier && may_go(*f))
      f->state = Fiber::State::kReady;
}

void Executor::wait_at_counter(const int32_t* counter, int32_t count, Site where) {
  Fiber& f = *current_;
  f.state = Fiber::State::kAtCount;
  f.where = where;
  f.counter = counter;
  f.count = count;
  suspend();
}

void Executor::wake_counting(const int32_t* counter, int32_t count) {
  for (Fiber* const f : threads_of_cluster_)
    if (f->state == Fiber::State::kAtCount && f->counter == counter && f->count == count)
      f->state = Fiber::State::kReady;
}

void Executor::release(ThreadTimes& clock) {
  const Fiber& f = *current_;
  merge(clock, f.elsewhere);
  for (unsigned lane = 0; lane < kLanes; ++lane)
    release_for(clock, f.warp * kLanes + lane, f.seen[lane]);
  release_for(clock, f.index, pass_time());
}

void Executor::release_for(ThreadTimes& clock, unsigned thread, uint32_t time) const {
  if (clock.empty()) clock.resize(fibers_.size() + kLanes);
  clock[thread] = std::max(clock[thread], time);
}

void Executor::acquire(Fiber& fiber, const ThreadTimes& clock) const {
  merge(fiber.elsewhere, clock);
  if (clock.empty()) return;
  for (unsigned lane = 0; lane < kLanes; ++lane)
    fiber.seen[lane] = std::max(fiber.seen[lane], clock[fiber.warp * kLanes + lane]);
}

uint32_t Executor::known(unsigned warp, unsigned lane) const {
  const Fiber& f = *current_;
  if (warp == f.warp) return f.seen[lane];
  return f.elsewhere.empty() ? 0 : f.elsewhere[warp * kLanes + lane];
}

// ---- what threads do to other blocks of their cluster

void Executor::note_access_to(unsigned block, const char* what, Site where) {
  if (block == current_->block) return;
  const AccessToBlock access{block, current_->index, warp_time(), what, where};
  const auto before = std::ranges::find_if(accesses_to_blocks_, [&](const AccessToBlock& a) {
    return a.block == block && a.thread == access.thread;
  });
  if (before == accesses_to_blocks_.end())
    accesses_to_blocks_.push_back(access);
  else
    *before = access;
}

// Whatever the order in which they ran.
void Executor::check_known_accesses() const {
  for (const AccessToBlock& access : accesses_to_blocks_) {
    const auto knows = [&](const Fiber* f) {
      return !f->elsewhere.empty() && f->elsewhere[access.thread] > access.time;
    };
    if (std::ranges::none_of(fibers_of_block(access.block), knows))
      violation(
          access.where,
          "block {} of the cluster may have ended before {} it, which no thread of it waits for",
          access.block, access.what);
  }
}

// One line for each run of neighbouring threads that wait for the same.
void Executor::report_deadlock() const {
  std::string text;
  constexpr int kMostLines = 6;
  int lines = 0;
  std::string last;
  for (const Fiber* const f : threads_of_cluster_) {
    const std::string now = describe_waiting(*f);
    if (now == last || lines == kMostLines) continue;
    const std::string block = blocks_ > 1 ? fmt::format("block {} of the cluster, ", f->block) : "";
    text += fmt::format("{} from {}thread {} on: {}", lines ? ";" : "", block,
                        index_text(f->thread), now);
    last = now;
    ++lines;
  }
  throw_violation(fmt::format("deadlock in block {}:{}", index_text(block_indices_[0]), text));
}

}  // namespace facet::emulated
