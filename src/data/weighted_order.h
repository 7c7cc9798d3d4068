// The order of an epoch in which each data set has a given share, however large it is
// (--dataset_weights).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

struct WeightedSet {
  std::string name;  // keys the draws
  double weight = 0;
  std::vector<int64_t> samples;  // of the training split
};

// How many of `total` places each weight gets: its share, rounded so that the sum is right (largest
// remainders, the first of equal ones).
std::vector<int64_t> shares_of(const std::vector<double>& weights, int64_t total);

// As many samples as all sets have together. A set's places go on through its samples from epoch to
// epoch, in a new order each time it begins anew, so that none is used again before all have been.
// A pure function of its arguments. Error(kConfig) if a set has no sample or gets no place.
std::vector<int64_t> weighted_epoch(const std::vector<WeightedSet>& sets, uint64_t seed,
                                    int64_t epoch);

}  // namespace facet
