// A thread of a block, run as a fiber: its stack, and what it waits for. The threads of a cluster,
// whose blocks run at the same time, are numbered through: those of a block from a whole warpgroup
// on.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "emulated/device/site.h"
#include "emulated/kernels/builtins.h"
#include "emulated/kernels/switch.h"

namespace facet::emulated {

constexpr unsigned kLanes = 32;

enum class Vote : uint8_t { kNone, kCount, kAnd, kOr };

// The arguments that the lanes of a warp bring to a warp operation.
struct WarpMeeting {
  unsigned mask;
  Site where;
  std::array<void*, kLanes> arguments{};  // by lane; null for lanes outside the mask

  template <typename T>
  T& of(unsigned lane) const {
    return *static_cast<T*>(arguments[lane]);
  }
};
using CompleteMeeting = void (*)(const WarpMeeting&);

struct AsyncCopy {
  void* to;
  const void* from;
  size_t bytes, valid_bytes;  // the rest becomes zero
  Site where;
};

// By thread of the cluster: up to which of its warp's synchronisations what it did is known to be
// done. Empty where nothing is known.
using ThreadTimes = std::vector<uint32_t>;

struct Fiber {
  enum class State : uint8_t {
    kReady,
    kAtBarrier,
    kAtClusterBarrier,
    kInMeeting,
    kAtPhase,
    kAtCount,
    kFinished
  };

  Switch context;
  char* stack = nullptr;
  void* sanitizer_stack = nullptr;  // AddressSanitizer's handle while suspended

  unsigned index = 0, warp = 0, lane = 0;
  unsigned block = 0;  // of its cluster
  uint3 thread{};
  State state = State::kFinished;
  Site where;  // of the barrier, meeting, phase or count it waits at

  // At a barrier.
  Vote vote = Vote::kNone;
  int ballot = 0, vote_result = 0;

  // In a meeting of its warp.
  const char* meeting_name = nullptr;
  unsigned mask = 0;
  void* argument = nullptr;
  CompleteMeeting complete = nullptr;

  // At a phase of an mbarrier.
  const void* mbarrier = nullptr;
  unsigned parity = 0;

  // At a counter.
  const int32_t* counter = nullptr;
  int32_t count = 0;

  // cp.async: the copies not committed yet, then the groups in order.
  std::vector<AsyncCopy> uncommitted;
  std::vector<std::vector<AsyncCopy>> groups;

  // Up to which of its warp's synchronisations each lane's accesses are known to be done.
  std::array<uint32_t, kLanes> seen{};
  // The same of other warps, by mbarriers.
  ThreadTimes elsewhere;
  // Accesses before this time of its warp are seen by copies of boxes and by products.
  uint32_t fenced = 0;
};

}  // namespace facet::emulated
