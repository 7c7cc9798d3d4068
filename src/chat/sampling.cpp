#include "chat/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace facet {
namespace {

constexpr const char* kNotNumbers =
    "the model's logits are not numbers; were its weights trained to a non-finite loss?";

bool are_numbers(std::span<const float> logits) {
  const float* const x = logits.data();
  const size_t count = logits.size();
  int32_t others = 0;
#pragma omp simd reduction(+ : others)
  for (size_t i = 0; i < count; ++i) others += x[i] != x[i];
  return others == 0;
}

}  // namespace

int32_t likeliest(std::span<const float> logits) {
  const float* const x = logits.data();
  const size_t count = logits.size();
  float highest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : highest)
  for (size_t i = 0; i < count; ++i) highest = std::max(highest, x[i]);
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), highest) - logits.begin());
}

std::span<const float> Sampler::penalised(std::span<const float> logits,
                                          std::span<const int32_t> said) {
  if (options_.repetition_penalty == 1) return logits;
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  penalised_.assign(logits.begin(), logits.end());
  for (const int32_t id : said) {
    const float logit = logits[static_cast<size_t>(id)];
    penalised_[static_cast<size_t>(id)] = logit > 0 ? logit / penalty : logit * penalty;
  }
  return penalised_;
}

int32_t Sampler::pick(std::span<const float> of_model, std::span<const int32_t> said,
                      RandomStream& draws) {
  CHECK(are_numbers(of_model), ExitCode::kNumericStop, kNotNumbers);
  const std::span<const float> logits = penalised(of_model, said);
  if (options_.temperature == 0) return likeliest(logits);

  const auto likelier = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  candidates_.resize(logits.size());
  std::iota(candidates_.begin(), candidates_.end(), 0);
  if (options_.top_k > 0 && options_.top_k < static_cast<int64_t>(logits.size())) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(),
                     likelier);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  std::sort(candidates_.begin(), candidates_.end(), likelier);

  const double highest = logits[static_cast<size_t>(candidates_[0])];
  weights_.clear();
  double total = 0;
  for (const int32_t id : candidates_) {
    weights_.push_back(
        std::exp((logits[static_cast<size_t>(id)] - highest) / options_.temperature));
    total += weights_.back();
  }
  // top-p keeps the fewest most likely tokens whose probabilities add up to p; at least one.
  double kept = 0;
  size_t count = 0;
  while (count < weights_.size() && (count == 0 || kept < options_.top_p * total))
    kept += weights_[count++];

  double left = draws.uniform_double() * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    left -= weights_[i];
    if (left < 0) return candidates_[i];
  }
  return candidates_[count - 1];
}

RandomStream draws_of(int64_t seed, std::string_view test, int64_t number, int64_t round) {
  return {static_cast<uint64_t>(seed), "generate", hash_name(test),
          static_cast<uint64_t>(number) << 32 | static_cast<uint64_t>(round)};
}

double log_probability(std::span<const float> logits, int32_t token) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  const double result = logits[static_cast<size_t>(token)] - highest - std::log(sum);
  CHECK(std::isfinite(result), ExitCode::kNumericStop, kNotNumbers);
  return result;
}

}  // namespace facet
