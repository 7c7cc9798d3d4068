#include "device/cuda/copy_streams.h"

#include <cstring>

#include "base/check.h"
#include "device/cuda/page_lock.h"

namespace facet {

// ---- page-locked memory

void* PinnedMemory::allocate(int64_t bytes, const std::string& purpose) {
  return page_lock(bytes, purpose,
                   "; more ranks at a higher --zero_stage page-lock less each, and without "
                   "--offload_optimizer cpu and --offload_param cpu the GPU holds it");
}

// Copies may be in flight. An error here comes from an earlier kernel, as in CudaMemory::free.
void PinnedMemory::free(void* data, int64_t) {
  static_cast<void>(cudaDeviceSynchronize());
  static_cast<void>(cudaFreeHost(data));
}

void PinnedMemory::zero(void* data, int64_t bytes) {
  std::memset(data, 0, static_cast<size_t>(bytes));
}

void PinnedMemory::forget(void* data, int64_t bytes) { host_memory().forget(data, bytes); }

// ---- copies

CopyStreams::~CopyStreams() {
  // Their errors are reported elsewhere.
  for (const Lane* lane : {&to_host_, &to_device_}) cudaStreamSynchronize(lane->stream);
}

const Event& CopyStreams::done(const Ticket& ticket) {
  return lane(ticket.way).done[static_cast<size_t>(ticket.number) % kEvents];
}

HostCopies::Ticket CopyStreams::start(Way way, const Tensor& to, const Tensor& from) {
  ASSERT(to.dense() && from.dense() && to.dtype() == from.dtype() && to.numel() == from.numel(),
         "{} {} is copied into {} {}", name_of(from.dtype()), from.shape_string(),
         name_of(to.dtype()), to.shape_string());
  const bool down = way == Way::kToHost;
  ASSERT((down ? from : to).space() == Space::kDevice && (down ? to : from).space() == Space::kHost,
         "a copy between the host and the device has both sides in one memory");
  Lane& taken = lane(way);
  computed_.record(compute_);
  taken.stream.wait(computed_);
  check_cuda(cudaMemcpyAsync(to.raw(), from.raw(), static_cast<size_t>(from.bytes()),
                             down ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, taken.stream),
             "cannot copy between the host and the device");
  const Ticket ticket{way, ++taken.started};
  taken.done[static_cast<size_t>(ticket.number) % kEvents].record(taken.stream);
  return ticket;
}

HostCopies::Ticket CopyStreams::start_to_host(const Tensor& host, const Tensor& device) {
  return start(Way::kToHost, host, device);
}

HostCopies::Ticket CopyStreams::start_to_device(const Tensor& device, const Tensor& host) {
  return start(Way::kToDevice, device, host);
}

void CopyStreams::wait(const Ticket& ticket) {
  if (ticket.number > 0) compute_.synchronize(done(ticket));
}

void CopyStreams::hold_compute(const Ticket& ticket) {
  if (ticket.number > 0) compute_.wait(done(ticket));
}

}  // namespace facet
