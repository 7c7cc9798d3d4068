// Tensors in device memory by NCCL, for ranks with a GPU each. Data only move: NCCL adds nothing
// up, as its order of summation would be its own.
//
// wait() lets the compute stream wait. The host goes on, and would find itself waiting for other
// ranks wherever it next waits for that stream, without knowing it. So it keeps a list of what the
// stream waits for and follows it through that list first: where it waits anyway, and where it is
// kAhead collectives ahead. Farther ahead it would fill the GPU's queue of launches, about a
// thousand, and wait inside a launch.
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
  // Waits for the other ranks unless an error unwinds this one.
  ~NcclTransport() override;

  Ticket start_all_gather(Tensor whole, Tensor part, const RankParts& parts) override;
  Ticket start_exchange(Tensor received, Tensor sent, const RankParts& parts) override;
  Ticket start_broadcast(Tensor x, int root) override;
  void progress() override {}  // the GPU needs nobody for that
  void wait(Ticket ticket, BegunCollective collective) override;

  static constexpr size_t kAhead = 8;

 private:
  struct Transfer {
    Event done;
    bool under_way = false;
  };

  // Of the compute stream's work: where it waits for a collective, and what comes after.
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
  std::array<Awaited, kAhead> awaited_;  // a ring
  size_t oldest_ = 0, num_awaited_ = 0;
  ncclComm_t comm_ = nullptr;
};

}  // namespace facet
