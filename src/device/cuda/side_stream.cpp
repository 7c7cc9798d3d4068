#include "device/cuda/side_stream.h"

#include "device/cuda/stream.h"

namespace facet {

SideStream::SideStream() {
  int least = 0, greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cannot read stream priorities");
  check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest),
             "cannot create a stream");
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cannot create an event");
}

SideStream::~SideStream() {
  cudaEventDestroy(event_);
  cudaStreamDestroy(stream_);
}

void SideStream::follow(cudaStream_t other) {
  check_cuda(cudaEventRecord(event_, other), "cannot record an event");
  check_cuda(cudaStreamWaitEvent(stream_, event_, 0), "cannot wait for an event");
}

void SideStream::precede(cudaStream_t other) {
  check_cuda(cudaEventRecord(event_, stream_), "cannot record an event");
  check_cuda(cudaStreamWaitEvent(other, event_, 0), "cannot wait for an event");
}

}  // namespace facet
