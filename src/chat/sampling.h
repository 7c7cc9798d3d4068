// Choosing the next token from its logits.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/rng.h"

namespace facet {

struct SamplingOptions {
  double temperature = 0;  // 0: the most likely token
  int64_t top_k = 0;       // 0: all
  double top_p = 1;
  double repetition_penalty = 1;  // 1: none
};

// The place of the highest of the logits, the first of equals. None is NaN.
int32_t likeliest(std::span<const float> logits);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options) : options_(options) {}

  // logits (V); ties go to the lower id. Takes one draw of the stream per token, none at
  // temperature 0. The logits of the ids in `said`, those of the conversation so far, are first
  // made smaller: divided by the repetition penalty if positive, multiplied by it if negative, once
  // each (Keskar et al., "CTRL", 2019, with the sign of Transformers'
  // RepetitionPenaltyLogitsProcessor). NaN logits are Error(kNumericStop).
  int32_t pick(std::span<const float> logits, std::span<const int32_t> said, RandomStream& draws);

 private:
  std::span<const float> penalised(std::span<const float> logits, std::span<const int32_t> said);

  SamplingOptions options_;
  std::vector<int32_t> candidates_;  // ids, most likely first
  std::vector<double> weights_;      // of the candidates, not normalised
  std::vector<float> penalised_;     // (V)
};

// The draws of an answer: they depend on nothing but the seed, the test's name, the number of the
// answer to it and the round.
RandomStream draws_of(int64_t seed, std::string_view test, int64_t number, int64_t round);

// ln of the probability of that token: its logit less ln of the sum of exp of all, in double.
// Error(kNumericStop) if that is no finite number.
double log_probability(std::span<const float> logits, int32_t token);

}  // namespace facet
