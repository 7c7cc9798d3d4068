// Collectives on device memory of a job of one rank: there is nobody to send to. What would be
// received is the rank's own part, copied on the compute stream where it is not in place, and the
// host waits for nothing.
#pragma once

#include "comm/device_transport.h"
#include "device/cuda/stream.h"

namespace facet {

class LoneTransport final : public DeviceTransport {
 public:
  // The stream must outlive all use.
  explicit LoneTransport(const Stream& compute) : compute_(compute) {}

  Ticket start_all_gather(Tensor whole, Tensor part, const RankParts& parts) override;
  Ticket start_exchange(Tensor received, Tensor sent, const RankParts& parts) override;
  Ticket start_broadcast(Tensor x, int root) override;
  void progress() override {}
  void wait(Ticket ticket, BegunCollective collective) override;

 private:
  Ticket copy(const Tensor& to, const Tensor& from, const RankParts& parts) const;

  const Stream& compute_;
};

}  // namespace facet
