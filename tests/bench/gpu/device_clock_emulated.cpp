#include "base/timer.h"
#include "device/arena.h"
#include "tests/bench/gpu/device_clock.h"

namespace facet::bench {

bool on_a_gpu() { return false; }

int64_t device_bytes_in_use() { return Arena::held(); }

struct DeviceClock::Marks {
  const Stream& stream;
  Timer timer;
};

DeviceClock::DeviceClock(const Stream& stream) : marks_(new Marks{stream, {}}) {}
DeviceClock::~DeviceClock() = default;

void DeviceClock::start() {
  marks_->stream.synchronize();
  marks_->timer.restart();
}

double DeviceClock::stop() {
  marks_->stream.synchronize();
  return marks_->timer.seconds() * 1e3;
}

}  // namespace facet::bench
