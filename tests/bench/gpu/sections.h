// The sections of the benchmark, and what they work with.
#pragma once

#include "comm/communicator.h"
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
  const Stream& stream;  // that the operators run on
  DeviceClock& clock;
  Report& report;
  Scale scale = Scale::kReference;
  Limits limits;
  Rates rates;
};

// Of a share in percent; 0 where the whole is not known.
inline double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// Before all sections: what the card can do, the measure of everything else.
Rates measure_rates(Bench& bench);

// The decoder's attention.
enum class Mode : uint8_t { kCausal, kMmca };

// bench.ops is the CUDA backend.
void measure_attention(Bench& bench);
// Linear layers with LoRA, as separate operators and as one product. bench.ops is the CUDA backend.
void measure_lora(Bench& bench);
// Whole steps of training: tokens/s, MFU, memory, milliseconds by phase. `layers`: of the decoder,
// 0: all.
void measure_step(Bench& bench, Communicator& world, Mode mode, int64_t layers);
// Every operator that such a step calls, in each size it has there.
void measure_operators(Bench& bench, Communicator& world, Mode mode, int64_t layers);

}  // namespace facet::bench
