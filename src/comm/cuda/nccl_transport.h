// Tensors in device memory by NCCL, for ranks with a GPU each. Data only move: NCCL adds nothing
// up, as its order of summation would be its own.
#pragma once

#include <mpi.h>

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
  void wait(Ticket ticket) override;

 private:
  struct Transfer {
    Event done;
    bool under_way = false;
  };

  Transfer& at(Ticket ticket) { return *transfers_[static_cast<size_t>(ticket)]; }
  void check(ncclResult_t result, const char* call) const;
  void check_for_late_errors() const;
  void follow_compute();
  Ticket record();

  int rank_ = 0;
  const Stream& compute_;
  Stream stream_;
  Event computed_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace facet
