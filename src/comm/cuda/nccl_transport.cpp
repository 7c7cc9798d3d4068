#include "comm/cuda/nccl_transport.h"

#include <exception>

#include "base/check.h"
#include "comm/mpi_calls.h"

namespace facet {
namespace {

ncclDataType_t type_of(const Tensor& x) {
  switch (x.dtype()) {
    case DType::kF32: return ncclFloat32;
    case DType::kBF16: return ncclBfloat16;
    case DType::kF16: return ncclFloat16;
    default: fail(ExitCode::kInternal, "tensors of {} cannot be sent", name_of(x.dtype()));
  }
}

// Parts of equal length, in rank order.
bool even(const RankParts& parts) {
  for (size_t r = 0; r < parts.counts.size(); ++r)
    if (parts.counts[r] != parts.counts[0] ||
        parts.offsets[r] != static_cast<int64_t>(r) * parts.counts[0])
      return false;
  return true;
}

}  // namespace

void NcclTransport::check(ncclResult_t result, const char* call) const {
  CHECK(result == ncclSuccess, ExitCode::kInternal,
        "{} failed: {} ({}); NCCL_DEBUG=INFO says more, --device_collectives mpi avoids NCCL", call,
        ncclGetErrorString(result), ncclGetLastError(comm_));
}

NcclTransport::NcclTransport(MPI_Comm comm, const Stream& compute) : compute_(compute) {
  int size = 1;
  check_mpi(MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  ncclUniqueId id{};
  if (rank_ == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  check_mpi(MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, comm), "MPI_Bcast");
  check(ncclCommInitRank(&comm_, size, id, rank_), "ncclCommInitRank");
  compute_.before_synchronize([this] {
    if (num_awaited_ == 0) return false;
    follow_oldest();
    return true;
  });
}

// A rank that unwinds must not wait for the others, which may be waiting for a collective of this
// rank.
NcclTransport::~NcclTransport() {
  compute_.before_synchronize({});
  if (std::uncaught_exceptions() > 0)
    ncclCommAbort(comm_);
  else
    ncclCommDestroy(comm_);
}

void NcclTransport::check_for_late_errors() const {
  ncclResult_t error = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &error), "ncclCommGetAsyncError");
  check(error, "an NCCL collective");
}

void NcclTransport::follow_compute() {
  computed_.record(compute_);
  stream_.wait(computed_);
}

DeviceTransport::Ticket NcclTransport::record() {
  Ticket ticket = 0;
  while (ticket < static_cast<Ticket>(transfers_.size()) && at(ticket).under_way) ++ticket;
  if (ticket == static_cast<Ticket>(transfers_.size()))
    transfers_.push_back(std::make_unique<Transfer>());
  at(ticket).done.record(stream_);
  at(ticket).under_way = true;
  return ticket;
}

// An all-gather of unequal parts is one broadcast per part: over a ring of ranks every link carries
// all data once, as in an all-gather of equal parts.
DeviceTransport::Ticket NcclTransport::start_all_gather(Tensor whole, Tensor part,
                                                        const RankParts& parts) {
  follow_compute();
  const ncclDataType_t type = type_of(whole);
  const bool one_call = even(parts);
  if (one_call) {
    check(ncclAllGather(part.raw(), whole.raw(), static_cast<size_t>(part.numel()), type, comm_,
                        stream_),
          "ncclAllGather");
    return record();
  }
  check(ncclGroupStart(), "ncclGroupStart");
  for (size_t r = 0; r < parts.counts.size(); ++r) {
    if (parts.counts[r] == 0) continue;
    const auto root = static_cast<int>(r);
    char* const place = whole.data<char>() + parts.offsets[r] * size_of(whole.dtype());
    check(ncclBroadcast(root == rank_ ? part.raw() : place, place,
                        static_cast<size_t>(parts.counts[r]), type, root, comm_, stream_),
          "ncclBroadcast");
  }
  check(ncclGroupEnd(), "ncclGroupEnd");
  return record();
}

DeviceTransport::Ticket NcclTransport::start_exchange(Tensor received, Tensor sent,
                                                      const RankParts& parts) {
  follow_compute();
  const ncclDataType_t type = type_of(sent);
  const int64_t size = size_of(sent.dtype());
  check(ncclGroupStart(), "ncclGroupStart");
  for (size_t r = 0; r < parts.counts.size(); ++r) {
    const auto count = static_cast<size_t>(parts.counts[r]);
    const int64_t begin = parts.offsets[r] * size;
    const auto peer = static_cast<int>(r);
    if (count == 0 || peer == rank_) continue;
    check(ncclSend(sent.data<char>() + begin, count, type, peer, comm_, stream_), "ncclSend");
    check(ncclRecv(received.data<char>() + begin, count, type, peer, comm_, stream_), "ncclRecv");
  }
  check(ncclGroupEnd(), "ncclGroupEnd");
  const auto own = static_cast<size_t>(rank_);
  const int64_t begin = parts.offsets[own] * size;
  check_cuda(cudaMemcpyAsync(received.data<char>() + begin, sent.data<char>() + begin,
                             static_cast<size_t>(parts.counts[own] * size),
                             cudaMemcpyDeviceToDevice, stream_),
             "cannot copy a rank's own part");
  return record();
}

DeviceTransport::Ticket NcclTransport::start_broadcast(Tensor x, int root) {
  ASSERT(x.bytes() <= kBroadcastBytes, "a broadcast of {} bytes", x.bytes());
  follow_compute();
  check(ncclBroadcast(x.raw(), x.raw(), static_cast<size_t>(x.numel()), type_of(x), root, comm_,
                      stream_),
        "ncclBroadcast");
  return record();
}

void NcclTransport::wait(Ticket ticket, BegunCollective collective) {
  check_for_late_errors();
  if (num_awaited_ == kAhead) follow_oldest();
  Awaited& newest = awaited_[(oldest_ + num_awaited_++) % kAhead];
  newest.collective = collective;
  newest.reached.record(compute_);
  compute_.wait(at(ticket).done);
  newest.passed.record(compute_);
  at(ticket).under_way = false;
}

// Until this rank's own work is done the others wait for it; then it waits for them.
void NcclTransport::follow_oldest() {
  const Awaited& oldest = awaited_[oldest_];
  oldest_ = (oldest_ + 1) % kAhead;
  --num_awaited_;
  oldest.reached.synchronize();
  const InCollective here(oldest.collective);
  oldest.passed.synchronize();
}

}  // namespace facet
