// Choosing the next token: greedy, temperature, top-k, top-p and their edges.
#include "chat/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "base/check.h"

namespace facet {
namespace {

std::map<int32_t, int64_t> draw(const SamplingOptions& options, const std::vector<float>& logits,
                                int64_t times) {
  Sampler sampler(options);
  RandomStream stream(5, "sampling_test");
  std::map<int32_t, int64_t> counts;
  for (int64_t i = 0; i < times; ++i) ++counts[sampler.pick(logits, {}, stream)];
  return counts;
}

using Counts = std::map<int32_t, int64_t>;

TEST(Sampling, GreedyTakesTheLowestIdOfTheMostLikely) {
  EXPECT_EQ(draw({}, {1, 3, 3, 2}, 3), (Counts{{1, 3}}));
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(likeliest(std::vector<float>(40, -inf)), 0);
}

// Vectors of all widths and what is left over.
TEST(Sampling, GreedyLooksAtEveryToken) {
  constexpr size_t kTokens = 77;
  for (size_t token = 0; token < kTokens; ++token) {
    std::vector<float> logits(kTokens, -1);
    logits[token] = logits[kTokens - 1] = -0.5F;
    EXPECT_EQ(likeliest(logits), static_cast<int32_t>(token));
    logits[token] = std::nanf("");
    EXPECT_THROW(draw({}, logits, 1), Error) << token;
  }
}

TEST(Sampling, TopKKeepsTheKLikeliestAndTheLowerIdOfEquals) {
  const Counts counts = draw({.temperature = 1, .top_k = 2, .top_p = 1}, {1, 1, 1, 1}, 200);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_TRUE(counts.contains(0) && counts.contains(1));
  EXPECT_EQ(draw({.temperature = 9, .top_k = 1, .top_p = 1}, {0, 2, 1}, 50), (Counts{{1, 50}}));
  EXPECT_EQ(draw({.temperature = 1, .top_k = 99, .top_p = 1}, {0, 0, 0}, 200).size(), 3u);
}

TEST(Sampling, TopPKeepsTheShortestRunThatReachesIt) {
  // Probabilities 0.5, 0.3, 0.2.
  const std::vector<float> logits = {std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  EXPECT_EQ(draw({.temperature = 1, .top_k = 0, .top_p = 0.4}, logits, 100), (Counts{{1, 100}}));
  const Counts two = draw({.temperature = 1, .top_k = 0, .top_p = 0.7}, logits, 400);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_FALSE(two.contains(0));
  EXPECT_EQ(draw({.temperature = 1, .top_k = 0, .top_p = 1e-9}, logits, 50), (Counts{{1, 50}}));
  EXPECT_EQ(draw({.temperature = 1, .top_k = 0, .top_p = 1}, logits, 400).size(), 3u);
}

TEST(Sampling, FrequenciesFollowTheSoftmaxAtItsTemperature) {
  // At temperature 2 weights are exp(0), exp(1): share 1/(1+e). 20,000 draws: 5 sigma is 0.016.
  const Counts counts = draw({.temperature = 2, .top_k = 0, .top_p = 1}, {0, 2}, 20000);
  EXPECT_NEAR(static_cast<double>(counts.at(0)) / 20000, 1 / (1 + std::exp(1.0)), 0.016);
}

TEST(Sampling, ExtremeLogitsAndNotANumber) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(draw({.temperature = 1, .top_k = 0, .top_p = 1}, {-inf, 1e30f, -1e30f}, 20),
            (Counts{{1, 20}}));
  EXPECT_THROW(draw({}, {0, std::nanf(""), 1}, 1), Error);
}

// Positive logits are divided, negative ones multiplied, once however often a token was said.
TEST(Sampling, RepetitionIsPenalised) {
  Sampler sampler({.repetition_penalty = 2});
  RandomStream stream(5, "sampling_test");
  const std::vector<float> positive = {1, 3, 2}, negative = {-9, -1, -1.5F};
  EXPECT_EQ(sampler.pick(positive, std::vector<int32_t>{}, stream), 1);
  EXPECT_EQ(sampler.pick(positive, std::vector<int32_t>{1, 1, 1}, stream), 2);  // 1.5, not 0.375
  EXPECT_EQ(sampler.pick(positive, std::vector<int32_t>{2, 1}, stream), 1);
  EXPECT_EQ(sampler.pick(negative, std::vector<int32_t>{1}, stream), 2);  // -2
}

TEST(Sampling, LogProbabilitiesAreThoseOfTheSoftmax) {
  const std::vector<float> logits = {1, 2, 3};
  const double sum = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  for (int32_t token = 0; token < 3; ++token)
    EXPECT_NEAR(log_probability(logits, token), token + 1 - std::log(sum), 1e-15);
  EXPECT_NEAR(log_probability(std::vector<float>{1e30F, 1e30F}, 0), -std::log(2), 1e-15);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
    EXPECT_THROW(log_probability(std::vector<float>{bad, 1}, 1), Error) << bad;
}

}  // namespace
}  // namespace facet
