// DeviceTransport: how tensors in device memory get from rank to rank. A Communicator is given one
// (Communicator::use) and checks arguments, counts elements and notes positions; what is here only
// moves them.
//
// Collectives are ordered against one stream, the compute stream. What was enqueued there before a
// collective starts is done before its data leave or its results arrive; what is enqueued there
// after wait() sees the results. The host need not wait for either; but where it does wait for
// other ranks, in wait() or in the stream's synchronize(), it is InCollective, and only there: what
// this rank's own work takes is its own time.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "base/progress.h"
#include "device/tensor.h"

namespace facet {

// Of a tensor, rank r's part is counts[r] elements from offsets[r] on.
struct RankParts {
  std::vector<int> counts, offsets;
  int64_t elements() const { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }
};

class DeviceTransport {
 public:
  using Ticket = int;  // of a collective that was started; wait() gives it back

  virtual ~DeviceTransport() = default;

  // As Communicator's functions of these names, of dense tensors in device memory. Every rank
  // starts the same ones in the same order, and waits for each.
  [[nodiscard]] virtual Ticket start_all_gather(Tensor whole, Tensor part,
                                                const RankParts& parts) = 0;
  [[nodiscard]] virtual Ticket start_exchange(Tensor received, Tensor sent,
                                              const RankParts& parts) = 0;
  // At most kBroadcastBytes.
  [[nodiscard]] virtual Ticket start_broadcast(Tensor x, int root) = 0;
  static constexpr int64_t kBroadcastBytes = int64_t{1} << 28;

  virtual void progress() = 0;
  virtual void wait(Ticket ticket, BegunCollective collective) = 0;
};

}  // namespace facet
