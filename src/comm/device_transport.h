// DeviceTransport: moves tensors in device memory between ranks, for a Communicator
// (Communicator::use), which checks arguments, counts elements and records progress.
//
// Collectives are ordered against one stream, the compute stream. What is enqueued there before a
// collective starts is done before its data are sent or its results arrive; what is enqueued after
// wait() sees the results. The host need not wait for either. Wherever it does wait for other
// ranks, in wait() or where it waits for the stream, it is InCollective, and only there, so that
// time spent on this rank's own work is not counted as communication.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "base/progress.h"
#include "device/tensor.h"

namespace facet {

// Rank r's part of a tensor: counts[r] elements from offsets[r] on.
struct RankParts {
  std::vector<int> counts, offsets;
  int64_t elements() const { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }
};

class DeviceTransport {
 public:
  using Ticket = int;  // of a started collective; valid until wait()

  virtual ~DeviceTransport() = default;

  // As Communicator's functions of the same names, for dense tensors in device memory. Every rank
  // starts the same collectives in the same order, and waits for each.
  [[nodiscard]] virtual Ticket start_all_gather(Tensor whole, Tensor part,
                                                const RankParts& parts) = 0;
  [[nodiscard]] virtual Ticket start_exchange(Tensor received, Tensor sent,
                                              const RankParts& parts) = 0;
  // At most kBroadcastBytes bytes.
  [[nodiscard]] virtual Ticket start_broadcast(Tensor x, int root) = 0;
  static constexpr int64_t kBroadcastBytes = int64_t{1} << 28;

  virtual void progress() = 0;
  virtual void wait(Ticket ticket, BegunCollective collective) = 0;
};

}  // namespace facet
