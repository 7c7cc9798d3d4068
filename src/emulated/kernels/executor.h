// Runs a grid: blocks one after the other, the threads of a block as fibers that run from barrier
// to barrier. A correct kernel gives the same bits in every execution order; one that lacks a
// barrier does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "base/rng.h"
#include "emulated/kernels/fiber.h"

namespace facet::emulated {

// kLateWarp: one warp of each block goes on only when nothing else can, not even a copy. What it
// waits for may then have come and gone.
enum class ThreadOrder : uint8_t { kForward, kReverse, kRandom, kLateWarp };

// Applies to the launches that run from now on.
struct ExecutionOrder {
  ThreadOrder order = ThreadOrder::kForward;
  uint64_t seed = 1;  // of kRandom, which draws a new order in every turn
  unsigned late_warp = 0;
};
void set_execution_order(ExecutionOrder order);

struct GridShape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
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
  void fence_running_thread() { current_->fenced = pass_time(); }

  // Ends the grid with an error where throwing is not allowed: in calls that the compiler inserts.
  [[noreturn]] void abandon_grid(std::exception_ptr failure);

  // ---- for the race check and shared memory
  uint64_t block_serial() const { return block_serial_; }  // never repeats
  uint32_t interval() const { return interval_; }          // barriers passed by the block
  uint32_t warp_time() const { return warp_syncs_[current_->warp]; }
  const Fiber& fiber(unsigned warp, unsigned lane) const { return *fibers_[warp * kLanes + lane]; }
  // Up to which time the running thread knows what that thread has done.
  uint32_t known(unsigned warp, unsigned lane) const;
  unsigned threads() const { return threads_; }
  size_t shared_bytes() const { return shape_.shared_bytes; }

 private:
  void check_limits(Site where) const;
  void make_fibers();
  void run_block(uint3 block);
  void start_threads();
  enum class Punctuality : uint8_t { kInTime, kLate };
  Punctuality punctuality_of(const Fiber& fiber) const;
  bool run_ready_threads(Punctuality punctuality);
  void deliver_a_copy();
  void resume(Fiber& fiber);
  void suspend();
  static void fiber_main();
  void release_barrier();
  bool all_wait_at_barrier() const;
  bool meeting_is_complete(const Fiber& fiber) const;
  [[noreturn]] void report_deadlock() const;

  GridShape shape_;
  const std::function<void()>* body_ = nullptr;
  unsigned threads_ = 0;
  std::vector<std::unique_ptr<Fiber>> fibers_;  // grows to the largest block
  std::vector<unsigned> turn_;                  // the order of the threads
  Fiber* current_ = nullptr;
  Switch scheduler_;
  std::exception_ptr failure_;
  bool threads_were_abandoned_ = false;  // by an error, with live frames on their stacks
  uint64_t block_serial_ = 0;
  uint32_t interval_ = 0;
  std::vector<uint32_t> warp_syncs_;  // (warps)
  RandomStream random_{1, "threads"};
  friend void set_execution_order(ExecutionOrder order);
  ExecutionOrder order_;
};

}  // namespace facet::emulated
