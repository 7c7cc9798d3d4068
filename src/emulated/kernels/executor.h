// Runs a grid: clusters of blocks one after the other (most kernels have clusters of one block),
// the threads of a cluster as fibers that run from barrier to barrier. A correct kernel gives the
// same bits in every execution order; one that lacks a barrier does not.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.h"
#include "emulated/kernels/fiber.h"

namespace facet::emulated {

// kLateWarp, kLateBlock: one warp or one block of each cluster goes on only when nothing else can,
// not even a copy. What it waits for may then have come and gone.
enum class ThreadOrder : uint8_t { kForward, kReverse, kRandom, kLateWarp, kLateBlock };

// Applies to the launches that run from now on.
struct ExecutionOrder {
  ThreadOrder order = ThreadOrder::kForward;
  uint64_t seed = 1;                       // of kRandom, which draws a new order in every turn
  unsigned late_warp = 0, late_block = 0;  // of the cluster
};
void set_execution_order(ExecutionOrder order);

constexpr unsigned kMostClusterBlocks = 8;

struct GridShape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;     // blocks, along x
};

class Executor {
 public:
  static Executor& instance();

  // Calls body() once for every thread of the grid. The first broken rule throws an Error.
  void run(const GridShape& shape, const std::function<void()>& body, Site where);

  // ---- called by the running thread
  bool in_thread() const { return current_ != nullptr; }
  Fiber& current() { return *current_; }
  // Waits until all threads of the block are at the same barrier; returns the result of the vote.
  int block_barrier(Vote vote, int ballot, Site where);
  // The same for all threads of the cluster.
  void cluster_barrier(Site where);
  // Waits until all lanes of the mask are at the same warp operation; the last one to arrive
  // completes it.
  void meet_warp(const char* name, unsigned mask, void* argument, CompleteMeeting complete,
                 Site where);
  // Orders the memory accesses of the lanes of the mask, as __syncwarp does.
  void order_lanes(unsigned mask);

  // Waits at a phase of an mbarrier until wake_waiting lets it go on.
  void wait_at(const void* mbarrier, unsigned parity, Site where);
  // Resumes those that wait there and for whom may_go() is true.
  void wake_waiting(const void* mbarrier, const std::function<bool(Fiber&)>& may_go);

  // Waits until wake_counting says that the counter is `count`.
  void wait_at_counter(const int32_t* counter, int32_t count, Site where);
  void wake_counting(const int32_t* counter, int32_t count);

  // ---- orders of memory accesses: times of a warp, which tell what was done before from the rest
  uint32_t pass_time() { return ++warp_syncs_[current_->warp]; }
  // Adds to the clock what the running thread has done and knows to be done.
  void release(ThreadTimes& clock);
  void release_for(ThreadTimes& clock, unsigned thread, uint32_t time) const;
  void acquire(Fiber& fiber, const ThreadTimes& clock) const;
  // What the running thread does at this time to another block, which must know of it before it
  // ends.
  void note_access_to(unsigned block, const char* what, Site where);
  void fence_running_thread() { current_->fenced = pass_time(); }

  // Ends the grid with an error where throwing is not allowed: in calls that the compiler inserts.
  [[noreturn]] void abandon_grid(std::exception_ptr failure);

  // ---- for the race check and shared memory
  uint64_t cluster_serial() const { return cluster_serial_; }  // never repeats
  // Barriers passed by the running block.
  uint32_t interval() const { return intervals_[current_->block]; }
  // What a block of the cluster had passed before the last barrier of the cluster, and that one.
  uint32_t interval_of_cluster_barrier(unsigned block) const { return synced_[block]; }
  uint32_t warp_time() const { return warp_syncs_[current_->warp]; }
  const Fiber& fiber(unsigned warp, unsigned lane) const { return *fibers_[warp * kLanes + lane]; }
  // Up to which time the running thread knows what that thread has done.
  uint32_t known(unsigned warp, unsigned lane) const;
  bool knows(unsigned thread, uint32_t time) const {
    return known(thread / kLanes, thread % kLanes) > time;
  }
  unsigned threads() const { return threads_; }  // of a block
  unsigned blocks() const { return blocks_; }    // of a cluster
  unsigned block_of_warp(unsigned warp) const { return warp * kLanes / block_stride_; }
  unsigned thread_in_block(unsigned index) const { return index % block_stride_; }
  unsigned first_warp() const { return current_->block * block_stride_ / kLanes; }
  size_t shared_bytes() const { return shape_.shared_bytes; }

 private:
  void check_limits(Site where) const;
  void make_fibers();
  void run_cluster(uint64_t first_block);
  void start_threads();
  enum class Punctuality : uint8_t { kInTime, kLate };
  Punctuality punctuality_of(const Fiber& fiber) const;
  bool run_ready_threads(Punctuality punctuality);
  void deliver_a_copy();
  void resume(Fiber& fiber);
  void suspend();
  static void fiber_main();
  // Threads in the order of their numbers.
  using Fibers = std::span<Fiber* const>;
  Fibers fibers_of_block(unsigned block) const {
    return Fibers(threads_of_cluster_).subspan(size_t{block} * threads_, threads_);
  }
  bool release_a_barrier();
  void release_barrier(unsigned block);
  void release_cluster_barrier();
  void make_known(Fibers fibers);
  void check_known_accesses() const;
  bool meeting_is_complete(const Fiber& fiber) const;
  [[noreturn]] void report_deadlock() const;

  GridShape shape_;
  const std::function<void()>* body_ = nullptr;
  unsigned threads_ = 0, blocks_ = 1;
  unsigned block_stride_ = 0;                   // in fibers_, whole warpgroups
  std::vector<std::unique_ptr<Fiber>> fibers_;  // grows to the largest cluster
  std::vector<Fiber*> threads_of_cluster_;
  std::vector<Fiber*> turn_;  // the order of the threads
  Fiber* current_ = nullptr;
  Switch scheduler_;
  std::exception_ptr failure_;
  bool threads_were_abandoned_ = false;  // by an error, with live frames on their stacks
  uint64_t cluster_serial_ = 0;
  std::array<uint3, kMostClusterBlocks> block_indices_{};
  std::array<uint32_t, kMostClusterBlocks> intervals_{}, synced_{}, running_{};  // running: threads
  std::vector<uint32_t> warp_syncs_;  // (warps of the cluster)
  struct AccessToBlock {
    unsigned block, thread;
    uint32_t time;
    const char* what;
    Site where;
  };
  std::vector<AccessToBlock> accesses_to_blocks_;  // the last of each thread
  RandomStream random_{1, "threads"};
  friend void set_execution_order(ExecutionOrder order);
  ExecutionOrder order_;
};

}  // namespace facet::emulated
