// Communicator: the program's collectives on Tensors. Host memory goes over MPI, device memory over
// the DeviceTransport in use.
//
// Sums add the ranks' contributions in rank order (rank 0 first), so the result does not depend on
// timing or on the library's choice of algorithm. Only numbers are summed here; tensors are
// exchanged, and summed by zero/reduction_buckets.h. The elements sent are counted.
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
  // Duplicates `comm`, so that its messages never mix with any other code's.
  explicit Communicator(MPI_Comm comm);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // For libraries that use MPI themselves (parallel HDF5).
  MPI_Comm handle() const { return comm_; }

  // Sets the transport of tensors in device memory.
  void use(std::unique_ptr<DeviceTransport> transport);

  // whole = the slices of all ranks in rank order, of fp32 or a 16-bit type. The slice may alias
  // its place in `whole`.
  void all_gather(Tensor whole, Tensor slice);
  using Parts = RankParts;
  // Non-blocking collectives: computation overlaps with them until wait(). Arguments must not be
  // touched until then. Every rank starts the same collectives in the same order.
  //
  // For device memory this refers to the order of the compute stream: work enqueued before the
  // start is done before data are sent, work enqueued after the wait sees the result, and the host
  // may run ahead of both.
  class Pending {
   private:
    friend class Communicator;
    static constexpr DeviceTransport::Ticket kNoTicket = -1;
    MPI_Request request_ = MPI_REQUEST_NULL;      // of tensors in host memory
    DeviceTransport::Ticket ticket_ = kNoTicket;  // of tensors in device memory
    BegunCollective collective_;
  };
  // whole = the parts of all ranks; `part` is this rank's.
  [[nodiscard]] Pending start_all_gather(Tensor whole, Tensor part, const Parts& parts);
  // All-to-all of parts of equal length: part r of `sent` goes to rank r, part r of `received`
  // comes from rank r. Dense fp32 or 16-bit types.
  [[nodiscard]] Pending start_exchange(Tensor received, Tensor sent, const Parts& parts);
  // MPI moves data only inside its calls: this advances started collectives without waiting. One
  // call is enough for messages that MPI copies at once; longer ones advance a piece per call.
  void progress();
  void wait(Pending& pending);
  // Small host vectors of equal length, summed in rank order.
  void all_reduce_sum(std::span<double> values);
  double sum(double value);
  int64_t sum(int64_t value);
  int64_t max(int64_t value);
  int64_t bit_or(int64_t bits);
  // The values of all ranks in rank order, (size * count), valid until the next call; count is the
  // same on every rank.
  std::span<const double> all_gather(std::span<const double> values);
  // The strings of all ranks, on every rank.
  std::vector<std::string> all_gather(const std::string& text);

  void broadcast(Tensor x, int root);
  void broadcast(std::string& text, int root);
  int64_t broadcast(int64_t value, int root);  // the root's value
  // Returns when the root has called it, too, which may take hours: the other ranks sleep between
  // looks, and their waiting is progress for the watchdog.
  void await_root(int root);

  int64_t elements_sent() const {
    return elements_sent_;
  }  // by this rank's tensor collectives so far

 private:
  void check_slice(const Tensor& whole, const Tensor& slice) const;
  // Null if the tensors are in host memory.
  DeviceTransport* transport_of(const Tensor& to, const Tensor& from) const;
  void broadcast_on_device(DeviceTransport& transport, const Tensor& x, int root);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  int64_t elements_sent_ = 0;
  int under_way_ = 0;             // MPI collectives started and not yet waited for
  std::vector<double> gathered_;  // of all ranks
  Parts even_;                    // of the last all-gather of equal parts on the device
  std::unique_ptr<DeviceTransport> transport_;
};

}  // namespace facet
