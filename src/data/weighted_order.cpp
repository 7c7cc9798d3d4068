#include "data/weighted_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"

namespace facet {

namespace {

// `count` samples of the set behind the first `done` ones of its endless sequence.
void append_samples(const WeightedSet& set, int64_t done, int64_t count, uint64_t seed,
                    std::vector<int64_t>& order) {
  const auto n = static_cast<int64_t>(set.samples.size());
  const uint64_t key = hash_name(set.name);
  while (count > 0) {
    const int64_t pass = done / n, begin = done % n, here = std::min(count, n - begin);
    const std::vector<int64_t> permutation = random_permutation(
        n, RandomStream(seed, "weighted pass", key, static_cast<uint64_t>(pass)));
    for (int64_t i = begin; i < begin + here; ++i)
      order.push_back(set.samples[static_cast<size_t>(permutation[static_cast<size_t>(i)])]);
    done += here;
    count -= here;
  }
}

}  // namespace

std::vector<int64_t> shares_of(const std::vector<double>& weights, int64_t total) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> shares;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double exact = static_cast<double>(total) * (weight / sum);
    shares.push_back(static_cast<int64_t>(exact));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<size_t> by_remainder(weights.size());
  std::iota(by_remainder.begin(), by_remainder.end(), size_t{0});
  std::stable_sort(by_remainder.begin(), by_remainder.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  int64_t left = total - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (size_t i = 0; left > 0; i = (i + 1) % shares.size(), --left) ++shares[by_remainder[i]];
  return shares;
}

std::vector<int64_t> weighted_epoch(const std::vector<WeightedSet>& sets, uint64_t seed,
                                    int64_t epoch) {
  int64_t total = 0;
  std::vector<double> weights;
  for (const WeightedSet& set : sets) {
    total += static_cast<int64_t>(set.samples.size());
    weights.push_back(set.weight);
  }
  const std::vector<int64_t> shares = shares_of(weights, total);
  std::vector<int64_t> drawn;
  for (size_t s = 0; s < sets.size(); ++s) {
    CHECK(shares[s] > 0 && !sets[s].samples.empty(), ExitCode::kConfig,
          "data set {}: {} training samples and {} of the {} places of an epoch; a weight needs at "
          "least one of both (--dataset_weights)",
          sets[s].name, sets[s].samples.size(), shares[s], total);
    append_samples(sets[s], epoch * shares[s], shares[s], seed, drawn);
  }
  std::vector<int64_t> order =
      random_permutation(total, RandomStream(seed, "weighted order", static_cast<uint64_t>(epoch)));
  for (int64_t& place : order) place = drawn[static_cast<size_t>(place)];
  return order;
}

}  // namespace facet
