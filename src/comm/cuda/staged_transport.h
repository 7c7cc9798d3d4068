// Collectives on device memory over MPI, staged through page-locked host memory: for ranks that
// share a GPU, which NCCL refuses, and for builds without NCCL.
//
// A collective takes three steps: a copy to the host, MPI, and a copy back. The copies run on their
// own stream. MPI is called once the data have arrived on the host; progress() checks for that
// without waiting, wait() waits for it. All ranks call MPI in the order in which collectives were
// started, on a communicator used for nothing else.
#pragma once

#include <mpi.h>

#include <memory>
#include <vector>

#include "comm/device_transport.h"
#include "device/cuda/stream.h"

namespace facet {

class PageLockedBuffer {
 public:
  PageLockedBuffer() = default;
  ~PageLockedBuffer();
  PageLockedBuffer(const PageLockedBuffer&) = delete;
  PageLockedBuffer& operator=(const PageLockedBuffer&) = delete;

  char* data() const { return data_; }
  size_t capacity() const { return capacity_; }
  // The content is lost; it must not be in use.
  void grow(size_t bytes);

 private:
  char* data_ = nullptr;
  size_t capacity_ = 0;
};

class StagedTransport final : public DeviceTransport {
 public:
  // Collective over `comm`, which it duplicates. The stream must outlive all use.
  StagedTransport(MPI_Comm comm, const Stream& compute);
  ~StagedTransport() override;

  Ticket start_all_gather(Tensor whole, Tensor part, const RankParts& parts) override;
  Ticket start_exchange(Tensor received, Tensor sent, const RankParts& parts) override;
  Ticket start_broadcast(Tensor x, int root) override;
  void progress() override;
  void wait(Ticket ticket, BegunCollective collective) override;

 private:
  enum class Kind : uint8_t { kAllGather, kExchange, kBroadcast };
  enum class Stage : uint8_t { kFree, kComingDown, kTravelling, kGoingUp };
  // A copy between the device and the staging memory.
  struct Copy {
    char* device;
    char* host;
    size_t bytes;
  };
  struct Transfer {
    Stage stage = Stage::kFree;
    Kind kind = Kind::kBroadcast;
    // In the staging memory the parts are back to back. All-gather: those of all ranks. Exchange:
    // those to send, then those to receive. This rank's own part is not staged.
    PageLockedBuffer staging;
    std::vector<int> counts, offsets;  // of the parts in it
    int64_t elements = 0;              // of the parts sent, or of those received
    MPI_Datatype words = MPI_DATATYPE_NULL;
    int root = 0;
    std::vector<Copy> up;  // the copies back to the device
    Event down_done, up_done;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  Transfer& at(Ticket ticket) { return *transfers_[static_cast<size_t>(ticket)]; }
  Ticket take_transfer(Kind kind, const Tensor& x, size_t bytes);
  void lay_out(Transfer& transfer, const RankParts& parts) const;
  void copy_down(const void* device, char* host, size_t bytes);
  void copy_on_device(void* to, const void* from, size_t bytes);
  void follow(Transfer& transfer, Ticket ticket);
  void hand_over_until(Ticket ticket);
  void hand_over(Transfer& transfer);
  void copy_up(Transfer& transfer);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  const Stream& compute_;
  Stream copies_;
  Event computed_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::vector<Ticket> coming_down_;  // oldest first
};

}  // namespace facet
