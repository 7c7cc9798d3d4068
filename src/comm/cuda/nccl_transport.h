// Collectives on device memory over NCCL, for ranks with a GPU each. NCCL only moves data and sums
// nothing: its order of summation is not ours.
//
// wait() makes the compute stream wait, not the host. The next time the host waits for that stream
// it would wait for other ranks without knowing it. So it keeps a list of the collectives that the
// stream waits for and works through that list first, both where it waits anyway and when it is
// kAhead collectives ahead. Further ahead it would fill the GPU's launch queue (about a thousand
// entries) and block inside a launch.
#pragma once

#include <mpi.h>

#include <array>
#include <memory>
#include <vector>

#include "comm/device_transport.h"
#include "comm/nccl.h"
#include "device/cuda/stream.h"

namespace facet {

class NcclTransport final : public DeviceTransport {
 public:
  // Collective over `comm`. The stream must outlive all use.
  NcclTransport(MPI_Comm comm, const Stream& compute);
  // Waits for the other ranks unless an exception unwinds this one.
  ~NcclTransport() override;

  Ticket start_all_gather(Tensor whole, Tensor part, const RankParts& parts) override;
  Ticket start_exchange(Tensor received, Tensor sent, const RankParts& parts) override;
  Ticket start_broadcast(Tensor x, int root) override;
  void progress() override {}  // NCCL needs no help from the host
  void wait(Ticket ticket, BegunCollective collective) override;

  static constexpr size_t kAhead = 8;

 private:
  struct Transfer {
    Event done;
    bool under_way = false;
  };

  // Where the compute stream waits for a collective, and the end of that wait.
  struct Awaited {
    Event reached, passed;
    BegunCollective collective;
  };

  Transfer& at(Ticket ticket) { return *transfers_[static_cast<size_t>(ticket)]; }
  void check(ncclResult_t result, const char* call) const;
  void check_for_late_errors() const;
  void follow_compute();
  Ticket record();
  void follow_oldest();

  int rank_ = 0;
  const Stream& compute_;
  Stream stream_;
  Event computed_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::array<Awaited, kAhead> awaited_;  // a ring buffer
  size_t oldest_ = 0, num_awaited_ = 0;
  ncclComm_t comm_ = nullptr;
};

}  // namespace facet
