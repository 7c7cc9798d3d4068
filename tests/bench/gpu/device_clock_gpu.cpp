#include "tests/bench/gpu/device_clock.h"

namespace facet::bench {

bool on_a_gpu() { return true; }

int64_t device_bytes_in_use() {
  size_t free = 0, all = 0;
  check_cuda(cudaMemGetInfo(&free, &all), "the GPU does not say how much of its memory is in use");
  return static_cast<int64_t>(all - free);
}

struct DeviceClock::Marks {
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
};

DeviceClock::DeviceClock(const Stream& stream) : marks_(std::make_unique<Marks>()) {
  marks_->stream = stream;
  for (cudaEvent_t* event : {&marks_->begin, &marks_->end})
    check_cuda(cudaEventCreate(event), "cannot create an event");
}

DeviceClock::~DeviceClock() {
  cudaEventDestroy(marks_->begin);
  cudaEventDestroy(marks_->end);
}

void DeviceClock::start() {
  check_cuda(cudaEventRecord(marks_->begin, marks_->stream), "cannot record an event");
}

double DeviceClock::stop() {
  float milliseconds = 0;
  check_cuda(cudaEventRecord(marks_->end, marks_->stream), "cannot record an event");
  check_cuda(cudaEventSynchronize(marks_->end), "the work that was timed failed");
  check_cuda(cudaEventElapsedTime(&milliseconds, marks_->begin, marks_->end), "cannot read a time");
  return static_cast<double>(milliseconds);
}

}  // namespace facet::bench
