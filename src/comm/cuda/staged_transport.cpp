#include "comm/cuda/staged_transport.h"

#include <limits>

#include "base/check.h"
#include "comm/mpi_calls.h"
#include "device/cuda/page_lock.h"

namespace facet {

PageLockedBuffer::~PageLockedBuffer() {
  if (data_) cudaFreeHost(data_);
}

void PageLockedBuffer::grow(size_t bytes) {
  if (data_) check_cuda(cudaFreeHost(data_), "cannot free page-locked memory");
  data_ = nullptr;
  capacity_ = 0;
  data_ = static_cast<char*>(page_lock(static_cast<int64_t>(bytes), "collectives"));
  capacity_ = bytes;
}

StagedTransport::StagedTransport(MPI_Comm comm, const Stream& compute) : compute_(compute) {
  check_mpi(MPI_Comm_dup(comm, &comm_), "MPI_Comm_dup");
  check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
}

// Collectives still in flight were left by an error: MPI may write to their memory until the job
// ends, so it is leaked.
StagedTransport::~StagedTransport() {
  // Queued copies read and write page-locked memory, which is freed below. Their errors are
  // reported to whoever waits for that work.
  cudaStreamSynchronize(copies_);
  for (std::unique_ptr<Transfer>& transfer : transfers_)
    if (transfer->request != MPI_REQUEST_NULL) static_cast<void>(transfer.release());
  MPI_Comm_free(&comm_);
}

// ---- start: up to and including the copies to the host

// The smallest free staging memory that is large enough, else one is enlarged.
DeviceTransport::Ticket StagedTransport::take_transfer(Kind kind, const Tensor& x, size_t bytes) {
  Ticket best = -1;
  const auto better = [&](const Transfer& a, const Transfer& b) {
    const size_t mine = a.staging.capacity(), other = b.staging.capacity();
    return (mine >= bytes) != (other >= bytes) ? mine >= bytes : (mine < other) == (mine >= bytes);
  };
  for (Ticket i = 0; i < static_cast<Ticket>(transfers_.size()); ++i)
    if (at(i).stage == Stage::kFree && (best < 0 || better(at(i), at(best)))) best = i;
  if (best < 0) {
    best = static_cast<Ticket>(transfers_.size());
    transfers_.push_back(std::make_unique<Transfer>());
  }
  Transfer& transfer = at(best);
  if (transfer.staging.capacity() < bytes) {
    copies_.synchronize();  // the last copy back may still read it
    transfer.staging.grow(bytes);
  }
  transfer.kind = kind;
  transfer.words = words_of(x);
  transfer.up.clear();
  computed_.record(compute_);
  copies_.wait(computed_);
  return best;
}

void StagedTransport::lay_out(Transfer& transfer, const RankParts& parts) const {
  transfer.counts.assign(parts.counts.begin(), parts.counts.end());
  transfer.offsets.resize(parts.counts.size());
  int64_t end = 0;
  for (size_t r = 0; r < parts.counts.size(); ++r) {
    if (transfer.kind == Kind::kExchange && r == static_cast<size_t>(rank_)) transfer.counts[r] = 0;
    transfer.offsets[r] = static_cast<int>(end);
    end += transfer.counts[r];
    ASSERT(end <= std::numeric_limits<int>::max(), "{} elements are beyond MPI's counts", end);
  }
  transfer.elements = end;
}

void StagedTransport::copy_down(const void* device, char* host, size_t bytes) {
  check_cuda(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, copies_),
             "cannot copy what is sent to the host");
}

void StagedTransport::copy_on_device(void* to, const void* from, size_t bytes) {
  if (to == from || bytes == 0) return;
  check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, copies_),
             "cannot copy a rank's own part");
}

void StagedTransport::follow(Transfer& transfer, Ticket ticket) {
  transfer.down_done.record(copies_);
  transfer.stage = Stage::kComingDown;
  coming_down_.push_back(ticket);
}

DeviceTransport::Ticket StagedTransport::start_all_gather(Tensor whole, Tensor part,
                                                          const RankParts& parts) {
  const Ticket ticket = take_transfer(Kind::kAllGather, whole, static_cast<size_t>(whole.bytes()));
  Transfer& transfer = at(ticket);
  lay_out(transfer, parts);
  const int64_t size = size_of(whole.dtype());
  for (size_t r = 0; r < parts.counts.size(); ++r) {
    const auto bytes = static_cast<size_t>(parts.counts[r] * size);
    if (bytes == 0) continue;
    char* const device = whole.data<char>() + parts.offsets[r] * size;
    char* const host = transfer.staging.data() + transfer.offsets[r] * size;
    if (r != static_cast<size_t>(rank_)) {
      transfer.up.push_back({device, host, bytes});
      continue;
    }
    if (parts.counts.size() > 1) copy_down(part.raw(), host, bytes);
    copy_on_device(device, part.raw(), bytes);
  }
  follow(transfer, ticket);
  return ticket;
}

DeviceTransport::Ticket StagedTransport::start_exchange(Tensor received, Tensor sent,
                                                        const RankParts& parts) {
  const int64_t size = size_of(sent.dtype());
  const Ticket ticket =
      take_transfer(Kind::kExchange, sent, static_cast<size_t>(2 * parts.elements() * size));
  Transfer& transfer = at(ticket);
  lay_out(transfer, parts);
  for (size_t r = 0; r < parts.counts.size(); ++r) {
    const auto bytes = static_cast<size_t>(parts.counts[r] * size);
    if (bytes == 0) continue;
    const int64_t begin = parts.offsets[r] * size;
    if (r == static_cast<size_t>(rank_)) {
      copy_on_device(received.data<char>() + begin, sent.data<char>() + begin, bytes);
      continue;
    }
    char* const out = transfer.staging.data() + transfer.offsets[r] * size;
    copy_down(sent.data<char>() + begin, out, bytes);
    transfer.up.push_back({received.data<char>() + begin, out + transfer.elements * size, bytes});
  }
  follow(transfer, ticket);
  return ticket;
}

DeviceTransport::Ticket StagedTransport::start_broadcast(Tensor x, int root) {
  const auto bytes = static_cast<size_t>(x.bytes());
  ASSERT(x.bytes() <= kBroadcastBytes, "a broadcast of {} bytes", bytes);
  const Ticket ticket = take_transfer(Kind::kBroadcast, x, bytes);
  Transfer& transfer = at(ticket);
  transfer.root = root;
  transfer.elements = x.numel();
  if (rank_ == root)
    copy_down(x.raw(), transfer.staging.data(), bytes);
  else
    transfer.up.push_back({x.data<char>(), transfer.staging.data(), bytes});
  follow(transfer, ticket);
  return ticket;
}

// ---- then: MPI between the hosts, and the copies back

void StagedTransport::hand_over(Transfer& transfer) {
  char* const staging = transfer.staging.data();
  const int* const counts = transfer.counts.data();
  const int* const offsets = transfer.offsets.data();
  const MPI_Datatype words = transfer.words;
  switch (transfer.kind) {
    case Kind::kAllGather:
      check_mpi(MPI_Iallgatherv(MPI_IN_PLACE, 0, words, staging, counts, offsets, words, comm_,
                                &transfer.request),
                "MPI_Iallgatherv");
      break;
    case Kind::kExchange: {
      int bytes = 0;
      check_mpi(MPI_Type_size(words, &bytes), "MPI_Type_size");
      check_mpi(MPI_Ialltoallv(staging, counts, offsets, words, staging + transfer.elements * bytes,
                               counts, offsets, words, comm_, &transfer.request),
                "MPI_Ialltoallv");
      break;
    }
    case Kind::kBroadcast:
      check_mpi(MPI_Ibcast(staging, static_cast<int>(transfer.elements), words, transfer.root,
                           comm_, &transfer.request),
                "MPI_Ibcast");
  }
  transfer.stage = Stage::kTravelling;
}

void StagedTransport::copy_up(Transfer& transfer) {
  for (const Copy& copy : transfer.up)
    check_cuda(cudaMemcpyAsync(copy.device, copy.host, copy.bytes, cudaMemcpyHostToDevice, copies_),
               "cannot copy what was received to the device");
  transfer.up_done.record(copies_);
  transfer.stage = Stage::kGoingUp;
}

void StagedTransport::progress() {
  while (!coming_down_.empty()) {
    Transfer& oldest = at(coming_down_.front());
    if (!oldest.down_done.is_over()) break;
    hand_over(oldest);
    coming_down_.erase(coming_down_.begin());
  }
  for (const std::unique_ptr<Transfer>& transfer : transfers_) {
    if (transfer->stage != Stage::kTravelling) continue;
    int arrived = 0;
    check_mpi(MPI_Test(&transfer->request, &arrived, MPI_STATUS_IGNORE), "MPI_Test");
    if (arrived) copy_up(*transfer);
  }
}

// Oldest first: all ranks hand collectives to MPI in the same order.
void StagedTransport::hand_over_until(Ticket ticket) {
  while (at(ticket).stage == Stage::kComingDown) {
    Transfer& oldest = at(coming_down_.front());
    oldest.down_done.synchronize();
    hand_over(oldest);
    coming_down_.erase(coming_down_.begin());
  }
}

void StagedTransport::wait(Ticket ticket, BegunCollective collective) {
  hand_over_until(ticket);
  Transfer& transfer = at(ticket);
  if (transfer.stage == Stage::kTravelling) {
    const InCollective here(collective);
    check_mpi(MPI_Wait(&transfer.request, MPI_STATUS_IGNORE), "MPI_Wait");
    copy_up(transfer);
  }
  compute_.wait(transfer.up_done);
  transfer.stage = Stage::kFree;
}

}  // namespace facet
