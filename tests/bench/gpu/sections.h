// The sections of the benchmark.
#pragma once

#include "comm/communicator.h"
#include "tests/bench/gpu/rates.h"

namespace facet::bench {

// The decoder's attention.
enum class Mode : uint8_t { kCausal, kMmca };

void measure_attention(Bench& bench);
// Whole steps of training: tokens/s, MFU, memory, milliseconds by phase. `layers`: of the decoder,
// 0: all.
void measure_step(Bench& bench, Communicator& world, Mode mode, int64_t layers);
// Every operator that such a step calls, in each size it has there.
void measure_operators(Bench& bench, Communicator& world, Mode mode, int64_t layers);

}  // namespace facet::bench
