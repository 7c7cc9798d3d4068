#include "comm/communicator.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/progress.h"
#include "comm/mpi_calls.h"

namespace facet {
Communicator::Communicator(MPI_Comm comm) {
  check_mpi(MPI_Comm_dup(comm, &comm_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
}

// The transport first: its destructor may have to communicate.
Communicator::~Communicator() {
  transport_.reset();
  if (comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
}

void Communicator::use(std::unique_ptr<DeviceTransport> transport) {
  transport_ = std::move(transport);
}

DeviceTransport* Communicator::transport_of(const Tensor& to, const Tensor& from) const {
  ASSERT(to.space() == from.space(), "a collective between host and device memory");
  if (to.space() == Space::kHost) return nullptr;
  ASSERT(transport_, "a collective on device memory before use() was called");
  return transport_.get();
}

void Communicator::check_slice(const Tensor& whole, const Tensor& slice) const {
  ASSERT(whole.dense() && slice.dense(), "a collective needs dense tensors");
  ASSERT(whole.dtype() == slice.dtype(), "a slice of {} and a whole of {}", name_of(slice.dtype()),
         name_of(whole.dtype()));
  ASSERT(whole.numel() == size_ * slice.numel(),
         "slices of {} elements on {} ranks do not add up to {}", slice.numel(), size_,
         whole.numel());
  ASSERT(whole.numel() <= std::numeric_limits<int>::max(), "{} elements are beyond MPI's counts",
         whole.numel());
}

void Communicator::all_gather(Tensor whole, Tensor slice) {
  check_slice(whole, slice);
  const auto count = static_cast<int>(slice.numel());
  if (whole.space() == Space::kDevice) {
    even_.counts.assign(static_cast<size_t>(size_), count);
    even_.offsets.resize(static_cast<size_t>(size_));
    for (int r = 0; r < size_; ++r) even_.offsets[static_cast<size_t>(r)] = r * count;
    Pending pending = start_all_gather(whole, slice, even_);
    return wait(pending);
  }
  const InCollective here(Collective::kAllGather);
  const MPI_Datatype words = words_of(whole);
  const bool in_place = slice.raw() == whole.data<char>() + rank_ * slice.bytes();
  check_mpi(MPI_Allgather(in_place ? MPI_IN_PLACE : slice.raw(), count, words, whole.raw(), count,
                          words, comm_),
            "MPI_Allgather");
  elements_sent_ += slice.numel() * (size_ - 1);
}

Communicator::Pending Communicator::start_all_gather(Tensor whole, Tensor part,
                                                     const Parts& parts) {
  ASSERT(whole.dense() && part.dense(), "a collective needs dense tensors");
  ASSERT(whole.numel() == parts.elements() && whole.numel() <= std::numeric_limits<int>::max(),
         "parts of {} elements in total do not add up to {}", parts.elements(), whole.numel());
  const int count = parts.counts[static_cast<size_t>(rank_)];
  ASSERT(part.numel() == count && part.dtype() == whole.dtype(),
         "a part has {} elements of {}, not {} of {}", part.numel(), name_of(part.dtype()), count,
         name_of(whole.dtype()));
  const MPI_Datatype words = words_of(whole);
  DeviceTransport* const transport = transport_of(whole, part);
  Pending pending;
  pending.collective_ = begin_collective(Collective::kAllGather);
  elements_sent_ += int64_t{count} * (size_ - 1);
  if (transport) {
    pending.ticket_ = transport->start_all_gather(whole, part, parts);
    return pending;
  }
  check_mpi(MPI_Iallgatherv(part.raw(), count, words, whole.raw(), parts.counts.data(),
                            parts.offsets.data(), words, comm_, &pending.request_),
            "MPI_Iallgatherv");
  under_way_ += pending.request_ != MPI_REQUEST_NULL;
  return pending;
}

Communicator::Pending Communicator::start_exchange(Tensor received, Tensor sent,
                                                   const Parts& parts) {
  ASSERT(received.dense() && sent.dense() && received.dtype() == sent.dtype(),
         "an exchange needs dense tensors of one type");
  const int count = parts.counts[static_cast<size_t>(rank_)];
  const MPI_Datatype words = words_of(sent);
  DeviceTransport* const transport = transport_of(received, sent);
  Pending pending;
  pending.collective_ = begin_collective(Collective::kReduceScatter);
  elements_sent_ += int64_t{count} * (size_ - 1);
  if (transport) {
    pending.ticket_ = transport->start_exchange(received, sent, parts);
    return pending;
  }
  check_mpi(
      MPI_Ialltoallv(sent.raw(), parts.counts.data(), parts.offsets.data(), words, received.raw(),
                     parts.counts.data(), parts.offsets.data(), words, comm_, &pending.request_),
      "MPI_Ialltoallv");
  under_way_ += pending.request_ != MPI_REQUEST_NULL;
  return pending;
}

void Communicator::progress() {
  if (transport_) transport_->progress();
  if (under_way_ == 0) return;
  int arrived = 0;
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_, &arrived, MPI_STATUS_IGNORE),
            "MPI_Iprobe");
}

void Communicator::wait(Pending& pending) {
  if (pending.ticket_ != Pending::kNoTicket) {
    const DeviceTransport::Ticket ticket = std::exchange(pending.ticket_, Pending::kNoTicket);
    return transport_->wait(ticket, pending.collective_);
  }
  if (pending.request_ == MPI_REQUEST_NULL) return;
  const InCollective here(pending.collective_);
  check_mpi(MPI_Wait(&pending.request_, MPI_STATUS_IGNORE), "MPI_Wait");
  --under_way_;
}

std::span<const double> Communicator::all_gather(std::span<const double> values) {
  const auto count = static_cast<int>(values.size());
  gathered_.resize(values.size() * static_cast<size_t>(size_));
  const InCollective here(Collective::kGather);
  check_mpi(
      MPI_Allgather(values.data(), count, MPI_DOUBLE, gathered_.data(), count, MPI_DOUBLE, comm_),
      "MPI_Allgather");
  return gathered_;
}

void Communicator::all_reduce_sum(std::span<double> values) {
  const std::span<const double> all = all_gather(values);
  std::fill(values.begin(), values.end(), 0.0);
  for (size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
}

double Communicator::sum(double value) {
  all_reduce_sum(std::span(&value, 1));
  return value;
}

int64_t Communicator::sum(int64_t value) {
  const InCollective here(Collective::kSum);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_SUM, comm_), "MPI_Allreduce");
  return value;
}

int64_t Communicator::max(int64_t value) {
  const InCollective here(Collective::kMax);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_MAX, comm_), "MPI_Allreduce");
  return value;
}

int64_t Communicator::bit_or(int64_t bits) {
  const InCollective here(Collective::kOr);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &bits, 1, MPI_INT64_T, MPI_BOR, comm_), "MPI_Allreduce");
  return bits;
}

std::vector<std::string> Communicator::all_gather(const std::string& text) {
  std::vector<std::string> all(static_cast<size_t>(size_));
  for (int root = 0; root < size_; ++root) {
    std::string& slot = all[static_cast<size_t>(root)];
    if (root == rank_) slot = text;
    broadcast(slot, root);
  }
  return all;
}

void Communicator::broadcast(Tensor x, int root) {
  ASSERT(x.dense(), "a collective needs a dense tensor");
  if (DeviceTransport* const transport = transport_of(x, x))
    return broadcast_on_device(*transport, x, root);
  constexpr int64_t kBlockBytes = int64_t{1} << 28;
  char* const data = x.data<char>();
  const InCollective here(Collective::kBroadcast);
  for (int64_t begin = 0; begin < x.bytes(); begin += kBlockBytes) {
    const auto bytes = static_cast<int>(std::min(kBlockBytes, x.bytes() - begin));
    check_mpi(MPI_Bcast(data + begin, bytes, MPI_BYTE, root, comm_), "MPI_Bcast");
  }
  if (rank_ == root) elements_sent_ += x.numel() * (size_ - 1);
}

void Communicator::broadcast_on_device(DeviceTransport& transport, const Tensor& x, int root) {
  const BegunCollective collective = begin_collective(Collective::kBroadcast);
  const int64_t piece = DeviceTransport::kBroadcastBytes / size_of(x.dtype());
  for (int64_t begin = 0; begin < x.numel(); begin += piece)
    transport.wait(
        transport.start_broadcast(x.range(begin, std::min(piece, x.numel() - begin)), root),
        collective);
  if (rank_ == root) elements_sent_ += x.numel() * (size_ - 1);
}

int64_t Communicator::broadcast(int64_t value, int root) {
  const InCollective here(Collective::kBroadcast);
  check_mpi(MPI_Bcast(&value, 1, MPI_INT64_T, root, comm_), "MPI_Bcast");
  return value;
}

void Communicator::await_root(int root) {
  constexpr std::chrono::milliseconds kBetweenLooks{10};
  MPI_Request request = MPI_REQUEST_NULL;
  char nothing = 0;
  check_mpi(MPI_Ibcast(&nothing, 1, MPI_CHAR, root, comm_, &request), "MPI_Ibcast");
  while (true) {
    int arrived = 0;
    check_mpi(MPI_Test(&request, &arrived, MPI_STATUS_IGNORE), "MPI_Test");
    if (arrived != 0) return;
    note_progress();
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

void Communicator::broadcast(std::string& text, int root) {
  const InCollective here(Collective::kBroadcast);
  auto length = static_cast<int64_t>(text.size());
  check_mpi(MPI_Bcast(&length, 1, MPI_INT64_T, root, comm_), "MPI_Bcast");
  text.resize(static_cast<size_t>(length));
  check_mpi(MPI_Bcast(text.data(), static_cast<int>(length), MPI_CHAR, root, comm_), "MPI_Bcast");
}

}  // namespace facet
