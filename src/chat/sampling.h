// Choosing the next token from its logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/rng.h"

namespace facet {

struct SamplingOptions {
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;       // 0: all
  double top_p = 1;
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options) {}

  // logits (V); ties go to the lower id. Takes one draw of the stream per token, none at
  // temperature 0. NaN logits are Error(kNumericStop).
  int32_t pick(std::span<const float> logits, RandomStream& draws);

 private:
  SamplingOptions options_;
  std::vector<int32_t> candidates_;  // ids, most likely first
  std::vector<double> weights_;      // of the candidates, not normalised
};

}  // namespace facet
