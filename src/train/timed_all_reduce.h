// An all-reduce as training makes it, timed: the parts of a buffer are exchanged, each rank sums
// its own in rank order, and the sums are gathered.
#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "device/arena.h"
#include "job/fault_injection.h"
#include "ops/ops.h"

namespace facet {

class TimedAllReduce {
 public:
  // What is reduced for `bytes`: as much fp32, rounded up to equal parts of the ranks.
  static int64_t bytes(int64_t bytes, int ranks);

  // Of up to `most_bytes` on each rank, in the memory of `ops`. Takes a little more than three
  // times that. The faults strike rank `world_rank` at the moment "bandwidth".
  TimedAllReduce(Communicator& ranks, Backend& ops, int64_t most_bytes,
                 const FaultInjection& faults, int world_rank);

  // Seconds of an all-reduce of `bytes` on each rank, from the first rank's begin to the last one's
  // end: the median of `repeats`, the same on all ranks; one more comes first and does not count.
  // Throws Error(kInternal) if a sum is wrong. Collective over the ranks.
  double seconds(int64_t bytes, int64_t repeats);

 private:
  double once(int64_t elements);
  void check_sums(int64_t elements);

  Communicator& ranks_;
  Backend& ops_;
  const FaultInjection& faults_;
  int world_rank_;
  int64_t repetition_ = 0;  // since the beginning, from 1
  Arena memory_;
  Tensor sent_, received_, sums_, slice_;
};

}  // namespace facet
