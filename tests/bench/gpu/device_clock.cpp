#include "tests/bench/gpu/device_clock.h"

#include <algorithm>
#include <cmath>

#include "base/timer.h"

namespace facet::bench {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double milliseconds_of(DeviceClock& clock, const Limits& limits,
                       const std::function<void()>& call) {
  const Timer total;
  call();
  clock.start();
  call();
  const double first = std::max(clock.stop(), 1e-3);
  if (first > limits.seconds * 1e3) return first;
  const int calls = std::clamp(static_cast<int>(std::ceil(limits.calls_milliseconds / first)), 1,
                               limits.most_calls);
  std::vector<double> times;
  do {
    clock.start();
    for (int i = 0; i < calls; ++i) call();
    times.push_back(clock.stop() / calls);
  } while (static_cast<int>(times.size()) < limits.repetitions && total.seconds() < limits.seconds);
  return median(times);
}

}  // namespace facet::bench
