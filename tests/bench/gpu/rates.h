// What the card can do: the measure of everything else.
#pragma once

#include "ops/ops.h"
#include "tests/bench/gpu/device_clock.h"
#include "tests/bench/gpu/report.h"

namespace facet::bench {

// Sizes of the reference configuration, or tiny ones that an emulation gets through in seconds.
enum class Scale : uint8_t { kReference, kTiny };

struct Rates {
  double copy = 0;     // bytes a second, read and written ones
  double product = 0;  // operations a second of a large bf16 product by cuBLASLt
};

// What sections work with.
struct Bench {
  Backend& ops;
  DeviceClock& clock;
  Report& report;
  Scale scale = Scale::kReference;
  Limits limits;
  Rates rates;
};

Rates measure_rates(Bench& bench);

// Of a share in percent; 0 where the whole is not known.
inline double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

}  // namespace facet::bench
