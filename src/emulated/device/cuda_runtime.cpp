#include "emulated/device/cuda_runtime.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "emulated/device/memory.h"
#include "emulated/device/observer.h"
#include "emulated/device/page_locked.h"
#include "emulated/device/stream.h"
#include "emulated/device/violation.h"

namespace emulated = facet::emulated;
using emulated::Access, emulated::observer, emulated::violation;

namespace {

int64_t page_locked = 0;
bool next_free_fails = false;

void check_host_side(const void* host, const char* what, EmulatedSite where) {
  if (emulated::in_device_range(host)) violation(where, "{} is device memory", what);
}

void note(const void* begin, size_t bytes, Access access, EmulatedSite where) {
  if (observer()) observer()->operation_access(begin, bytes, access, where);
}

void copy_now(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, EmulatedSite where) {
  const bool from_device = kind != cudaMemcpyHostToDevice,
             to_device = kind != cudaMemcpyDeviceToHost;
  if (from_device)
    emulated::check_device_range(from, bytes, "the source", where);
  else
    check_host_side(from, "the source", where);
  if (to_device)
    emulated::check_device_range(to, bytes, "the destination", where);
  else
    check_host_side(to, "the destination", where);
  if (from_device) note(from, bytes, Access::kRead, where);
  if (to_device) note(to, bytes, Access::kWrite, where);
  if (observer() && to_device && from_device) observer()->copy_defined(to, from, bytes);
  if (observer() && to_device && !from_device) observer()->all_defined(to, bytes);
  if (bytes > 0) std::memcpy(to, from, bytes);
}

}  // namespace

void emulated::forget_on_stream(void* data, size_t bytes, Stream* stream, Site where) {
  enqueue(stream, "forgotten", where, [=] {
    check_device_range(data, bytes, "the memory declared undefined", where);
    note(data, bytes, Access::kWrite, where);
    forget_content(data, bytes);
  });
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* address, int length, int) {
  std::snprintf(address, static_cast<size_t>(length), "emulated:%d", static_cast<int>(getpid()));
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes, EmulatedSite where) {
  *data = emulated::reserve_device_memory(bytes, where);
  emulated::make_live(*data);
  return cudaSuccess;
}

cudaError_t cudaFree(void* data, EmulatedSite where) {
  if (!data) return cudaSuccess;
  if (std::exchange(next_free_fails, false)) return cudaErrorLaunchFailure;
  emulated::synchronize_device();
  emulated::free_device_memory(data, where);
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t stream, EmulatedSite where) {
  void* reserved = emulated::reserve_device_memory(bytes, where);
  *data = reserved;
  emulated::enqueue(stream, "allocated", where, [=] { emulated::make_live(reserved); });
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream, EmulatedSite where) {
  emulated::check_freeable(data, where);
  emulated::enqueue(stream, "freed", where, [=] { emulated::free_device_memory(data, where); });
  return cudaSuccess;
}

int64_t emulated::page_locked_allocations() { return page_locked; }

void emulated::fail_next_free() { next_free_fails = true; }

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  const char* const most = std::getenv("FACET_EMULATED_PAGE_LOCKED");
  if (most && bytes + emulated::page_locked_bytes() > std::strtoull(most, nullptr, 10))
    return cudaErrorMemoryAllocation;
  ++page_locked;
  *data = emulated::allocate_page_locked(bytes);
  emulated::fill_undefined(*data, bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  emulated::free_page_locked(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream, EmulatedSite where) {
  if (kind == cudaMemcpyDeviceToHost && !emulated::is_page_locked(to))
    emulated::count_pageable_copy();
  emulated::enqueue(stream, "copied", where, [=] { copy_now(to, from, bytes, kind, where); });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream,
                            EmulatedSite where) {
  emulated::enqueue(stream, "filled", where, [=] {
    emulated::check_device_range(data, bytes, "the memory to fill", where);
    note(data, bytes, Access::kWrite, where);
    if (observer()) observer()->all_defined(data, bytes);
    std::memset(data, value, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags, EmulatedSite where) {
  return cudaStreamCreateWithPriority(stream, flags, 0, where);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority,
                                         EmulatedSite where) {
  if (flags != cudaStreamNonBlocking)
    violation(where, "a stream must be made with cudaStreamNonBlocking: only events order streams");
  *stream = emulated::create_stream(priority);
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  *priority = emulated::priority_of(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream, EmulatedSite where) {
  emulated::destroy_stream(stream, where);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream, EmulatedSite where) {
  emulated::synchronize_stream(stream, where);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned,
                                EmulatedSite where) {
  emulated::wait_event(stream, event, where);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = emulated::create_event(flags == cudaEventDisableTiming ? emulated::Timing::kNo
                                                                  : emulated::Timing::kYes);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event, EmulatedSite where) {
  emulated::destroy_event(event, where);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream, EmulatedSite where) {
  emulated::record_event(event, stream, where);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event, EmulatedSite where) {
  emulated::synchronize_event(event, where);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end,
                                 EmulatedSite where) {
  *milliseconds = static_cast<float>(emulated::milliseconds_between(begin, end, where));
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event, EmulatedSite where) {
  return emulated::event_is_over(event, where) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  emulated::synchronize_device();
  return cudaSuccess;
}
