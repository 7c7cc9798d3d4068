// CUDA streams and events with ownership, and how runtime errors become facet errors. Streams are
// ordered by events only: nothing here synchronises the whole device.
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

// A point in a stream's work that the host or another stream can wait for.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

  void record(cudaStream_t stream);
  bool is_over() const;  // does not wait
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

  // What is enqueued from here on runs after the event's latest record.
  void wait(const Event& event) const;
  // The host waits for all work so far, or for an event that comes after some of it. First it
  // accounts for what the stream itself waits for up to there (follow_oldest()).
  void synchronize() const;
  void synchronize(const Event& event) const;
  // `follow` waits for the oldest of what the stream waits for, under its own name (NcclTransport);
  // it returns false where there is nothing. An empty function removes it.
  void before_synchronize(std::function<bool()> follow) const;
  bool follow_oldest() const;

 private:
  cudaStream_t stream_ = nullptr;
  mutable std::function<bool()> follow_;
};

// Declares the content of device memory undefined, in stream order. The emulation then fills it
// with NaNs; on a GPU nothing happens.
void forget_content(void* data, int64_t bytes, const Stream& stream);

}  // namespace facet
