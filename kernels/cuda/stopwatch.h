// How long work takes on a stream, by which one of several ways to the same result is chosen.
#pragma once

#include "device/cuda/stream.h"

namespace facet::cuda {

// Milliseconds on a stream between two moments.
class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    for (cudaEvent_t* event : {&begin_, &end_})
      check_cuda(cudaEventCreateWithFlags(event, cudaEventDefault), "cannot create an event");
  }
  ~Stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  void start() { check_cuda(cudaEventRecord(begin_, stream_), "cannot record an event"); }
  float stop() {
    float milliseconds = 0;
    check_cuda(cudaEventRecord(end_, stream_), "cannot record an event");
    check_cuda(cudaEventSynchronize(end_), "a product that was timed failed");
    check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "cannot read a time");
    return milliseconds;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Milliseconds of three runs of work that is enqueued on the stream, after one that is not counted.
template <typename Work>
float milliseconds_of(cudaStream_t stream, const Work& work) {
  constexpr int kRuns = 3;
  work();
  Stopwatch stopwatch(stream);
  stopwatch.start();
  for (int run = 0; run < kRuns; ++run) work();
  return stopwatch.stop();
}

}  // namespace facet::cuda
