// The part of the CUDA runtime that the program calls, by CUDA's names, for the emulated build. A
// broken rule ends in an Error that names the caller's line, so no call returns an error, except
// that cudaEventQuery says cudaErrorNotReady and cudaFree what a test asks for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {
class Stream;
struct Event;
}  // namespace facet::emulated

namespace facet::emulated {
// The content becomes undefined when the stream gets there: memory that goes from one use to the
// next, such as an arena's.
void forget_on_stream(void* data, size_t bytes, Stream* stream, Site where = Site::current());

int64_t page_locked_allocations();  // calls of cudaMallocHost since the program began

// The next cudaFree frees nothing and says what every call says after a kernel has failed.
void fail_next_free();
}  // namespace facet::emulated

using cudaStream_t = facet::emulated::Stream*;
using cudaEvent_t = facet::emulated::Event*;
using EmulatedSite = facet::emulated::Site;

enum cudaError_t { cudaSuccess = 0, cudaErrorNotReady = 600, cudaErrorLaunchFailure = 719 };
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3
};
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDisableTiming = 2;

inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
// No error stays behind.
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

// A process has one device, which nobody shares with it.
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetPCIBusId(char* address, int length, int device);

// Memory. cudaFree waits for all work first, as CUDA does.
cudaError_t cudaMalloc(void** data, size_t bytes, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaFree(void* data, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaMallocAsync(void** data, size_t bytes, cudaStream_t stream,
                            EmulatedSite where = EmulatedSite::current());
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream,
                          EmulatedSite where = EmulatedSite::current());
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFreeHost(void* data);

// Copies and fills. Host memory is read and written when the stream gets there, page-locked or not.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream,
                            EmulatedSite where = EmulatedSite::current());

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags,
                                      EmulatedSite where = EmulatedSite::current());
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
cudaError_t cudaEventQuery(cudaEvent_t event, EmulatedSite where = EmulatedSite::current());
cudaError_t cudaDeviceSynchronize();
