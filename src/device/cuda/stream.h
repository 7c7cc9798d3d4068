// Streams and events of CUDA, owned, and how an error of the runtime becomes one of facet. Streams
// are ordered by events only: nothing here waits for the device as a whole.
#pragma once

#include <cstdint>
#include <functional>
#include <source_location>

#include "device/cuda_runtime.h"

namespace facet {

// Throws Error(kInternal) unless the call succeeded; `what` says what could not be done. An error
// may belong to an earlier kernel: the device reports it with the next call.
void check_cuda(cudaError_t error, const char* what,
                std::source_location where = std::source_location::current());

class Stream;

// A place in a stream's work that the host or another stream can wait for.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

  void record(const Stream& stream);
  void synchronize() const;

 private:
  cudaEvent_t event_ = nullptr;
};

class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

  // What is queued from here on runs behind the event's latest record.
  void wait(const Event& event) const;
  // The host waits for all work so far, and calls first what it was given for that: who knows what
  // the stream itself waits for can wait for it under its name. An empty function ends that.
  void synchronize() const;
  void before_synchronize(std::function<void()> call) const;

 private:
  cudaStream_t stream_ = nullptr;
  mutable std::function<void()> before_synchronize_;
};

// The content of device memory is undefined from here on in the stream's order. The emulation fills
// it with NaNs then; a GPU is told nothing.
void forget_content(void* data, int64_t bytes, const Stream& stream);

}  // namespace facet
