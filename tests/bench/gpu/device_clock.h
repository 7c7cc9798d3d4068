// What the benchmark asks of the device it measures. It is linked with one of the answers:
// device_clock_gpu.cpp, or device_clock_emulated.cpp, whose times say nothing about a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "device/cuda/stream.h"

namespace facet::bench {

// Whether times mean anything.
bool on_a_gpu();

// Bytes of the device's memory that are in use, by whomever.
int64_t device_bytes_in_use();

// A stopwatch that runs on a stream.
class DeviceClock {
 public:
  explicit DeviceClock(const Stream& stream);
  ~DeviceClock();
  DeviceClock(const DeviceClock&) = delete;
  DeviceClock& operator=(const DeviceClock&) = delete;

  void start();
  // Waits for the stream; milliseconds that its work since start() took.
  double stop();

 private:
  struct Marks;
  std::unique_ptr<Marks> marks_;
};

// How long to measure. `calls` are timed together, so that the host can run ahead of the device.
struct Limits {
  int repetitions = 7;
  int most_calls = 20;
  double calls_milliseconds =
      2;                 // that the calls of a repetition take together, if they are enough
  double seconds = 0.4;  // after which no further repetition begins
};
// For a device whose times mean nothing: one call, after one to warm up.
constexpr Limits kOnce = {.repetitions = 1, .most_calls = 1, .calls_milliseconds = 0, .seconds = 0};

// Milliseconds of a call: the median of the repetitions, after two calls to warm up; of a call that
// takes all the seconds by itself, the second one's.
double milliseconds_of(DeviceClock& clock, const Limits& limits, const std::function<void()>& call);

double median(std::vector<double> values);

}  // namespace facet::bench
