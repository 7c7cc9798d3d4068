// The part of the CUDA runtime that the program calls, under CUDA's names, for the emulated build.
// A broken rule throws an Error that names the caller's line, so no call returns an error, except
// cudaErrorNotReady by cudaEventQuery and, by cudaFree and cudaMallocHost, what a test asks for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {
class Stream;
struct Event;
}  // namespace facet::emulated

namespace facet::emulated {
// In stream order, makes the content undefined: for memory that is reused, such as an arena's.
void forget_on_stream(void* data, size_t bytes, Stream* stream, Site where = Site::current());

int64_t page_locked_allocations();  // calls of cudaMallocHost since the program started

// The next cudaFree frees nothing and returns what every call returns after a kernel has failed.
void fail_next_free();
}  // namespace facet::emulated

using cudaStream_t = facet::emulated::Stream*;
using cudaEvent_t = facet::emulated::Event*;
using EmulatedSite = facet::emulated::Site;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "no error";
}
// There is never a sticky error.
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

// A process has one device of its own.
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetPCIBusId(char* address, int length, int device);

// Memory. cudaFree waits for all work first, as CUDA does.
cudaError_t cudaMalloc(void** data, size_t bytes, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaFree(void* data, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t stream,
                            EmulatedSite where = EmulatedSite::current());
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream,
                          EmulatedSite where = EmulatedSite::current());
// FACET_EMULATED_PAGE_LOCKED: so many bytes may be locked at a time.
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFreeHost(void* data);

// Copies and fills. Host memory is read and written in stream order, page-locked or not.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream,
                            EmulatedSite where = EmulatedSite::current());

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags,
                                      EmulatedSite where = EmulatedSite::current());
// 0, as every stream without a priority has it, to -5.
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority,
                                         EmulatedSite where = EmulatedSite::current());
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaStreamSynchronize(cudaStream_t stream,
                                  EmulatedSite where = EmulatedSite::current());
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0,
                                EmulatedSite where = EmulatedSite::current());
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream,
                            EmulatedSite where = EmulatedSite::current());
cudaError_t cudaEventSynchronize(cudaEvent_t event, EmulatedSite where = EmulatedSite::current());
// By a clock that only products move (emulated/device/cublaslt.h, emulated/kernels/warpgroup.h).
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end,
                                 EmulatedSite where = EmulatedSite::current());
cudaError_t cudaEventQuery(cudaEvent_t event, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaDeviceSynchronize();
