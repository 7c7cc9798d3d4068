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

  // logits (V). Of equal logits the lower id counts as the likelier. One draw of the stream a
  // token; none at temperature 0. Logits that are not a number are Error(kNumericStop).
  int32_t pick(std::span<const float> logits, RandomStream& draws);

 private:
  SamplingOptions options_;
  std::vector<int32_t> candidates_;  // ids, likeliest first
  std::vector<double> weights_;      // beside them, not normalised
};

}  // namespace facet
