#include "device/cuda/side_stream.h"

namespace facet {

SideStream::SideStream() {
  int least = 0, greatest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cannot read stream priorities");
  check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest),
             "cannot create a stream");
}

SideStream::~SideStream() { cudaStreamDestroy(stream_); }

void SideStream::follow(cudaStream_t other) {
  event_.record(other);
  check_cuda(cudaStreamWaitEvent(stream_, event_, 0), "cannot wait for an event");
}

void SideStream::precede(cudaStream_t other) {
  event_.record(stream_);
  check_cuda(cudaStreamWaitEvent(other, event_, 0), "cannot wait for an event");
}

}  // namespace facet
