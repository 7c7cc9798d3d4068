// Communicator: the collectives of the program, on Tensors. Those in host memory go over MPI, those
// in device memory by the DeviceTransport that it was given.
//
// Sums add the ranks' contributions in rank order (rank 0 first), so the result does not depend on
// timing or on the library's choice of algorithm: numbers here; of tensors the contributions are
// only exchanged (zero/reduction_buckets.h). What a rank sends is counted.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "comm/device_transport.h"
#include "device/tensor.h"

namespace facet {

class Communicator {
 public:
  // Takes a duplicate of `comm`, so that its messages never meet anybody else's.
  explicit Communicator(MPI_Comm comm);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // For libraries that talk MPI themselves (parallel HDF5).
  MPI_Comm handle() const { return comm_; }

  // Tensors in device memory travel by it from here on.
  void use(std::unique_ptr<DeviceTransport> transport);

  // whole = the slices of all ranks one behind the other, fp32 or 16 bits as they are. The slice
  // may be its place in `whole`.
  void all_gather(Tensor whole, Tensor slice);
  using Parts = RankParts;
  // Collectives in two halves: what is computed between them goes on beside them. All arguments
  // stay untouched until they have been waited for. Every rank starts the same collectives in the
  // same order.
  //
  // In device memory "computed" and "untouched" mean what is enqueued on the compute stream: work
  // enqueued before the start is done before the data leave, work enqueued after the wait sees the
  // result, and the host may run ahead of both.
  class Pending {
   private:
    friend class Communicator;
    static constexpr DeviceTransport::Ticket kNoTicket = -1;
    MPI_Request request_ = MPI_REQUEST_NULL;      // of tensors in host memory
    DeviceTransport::Ticket ticket_ = kNoTicket;  // of tensors in device memory
    BegunCollective collective_;
  };
  // whole = the parts of all ranks, of which `part` is this rank's.
  [[nodiscard]] Pending start_all_gather(Tensor whole, Tensor part, const Parts& parts);
  // Part r of `sent` goes to rank r, and what rank r sent here arrives in part r of `received`: all
  // ranks exchange parts of one length. Dense fp32 or 16-bit types.
  [[nodiscard]] Pending start_exchange(Tensor received, Tensor sent, const Parts& parts);
  // MPI moves data only inside its calls: what has been started gets on here, without waiting. One
  // call is enough for messages that MPI copies in one go, each brings a piece of the others.
  void progress();
  void wait(Pending& pending);
  // Small host vectors of equal length, summed in rank order.
  void all_reduce_sum(std::span<double> values);
  double sum(double value);
  int64_t sum(int64_t value);
  int64_t max(int64_t value);
  int64_t bit_or(int64_t bits);
  // values of all ranks one behind the other, (size * count), until the next call; every rank gives
  // the same count.
  std::span<const double> all_gather(std::span<const double> values);
  // Strings of all ranks, on every rank.
  std::vector<std::string> all_gather(const std::string& text);

  void broadcast(Tensor x, int root);
  void broadcast(std::string& text, int root);
  int64_t broadcast(int64_t value, int root);  // the root's value

  int64_t elements_sent() const {
    return elements_sent_;
  }  // by this rank's tensor collectives so far

 private:
  void check_slice(const Tensor& whole, const Tensor& slice) const;
  // Null for tensors in host memory.
  DeviceTransport* transport_of(const Tensor& to, const Tensor& from) const;
  void broadcast_on_device(DeviceTransport& transport, const Tensor& x, int root);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  int64_t elements_sent_ = 0;
  int under_way_ = 0;             // collectives over MPI, started and not yet waited for
  std::vector<double> gathered_;  // of all ranks
  Parts even_;                    // of the last even gather on the device
  std::unique_ptr<DeviceTransport> transport_;
};

}  // namespace facet
