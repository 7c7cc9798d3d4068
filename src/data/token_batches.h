// Micro-batches by tokens: which rank computes which samples of a step, and in which micro-batches.
// Pure arithmetic, the same on every rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace facet {

struct SampleCost {
  int64_t rows = 0;  // L: what a micro-batch may hold only so many of
  int64_t work = 0;  // in any unit
};

// For each micro-batch of a rank the numbers of its samples, ascending.
using SampleLists = std::vector<std::vector<int64_t>>;

// For each rank its micro-batches, as many on each as the one with the most needs: the others have
// empty ones at the end. A micro-batch has at most `rows` rows, or is one sample that alone has
// more. Ranks get nearly equal work: the heaviest sample first, each to the rank with the least so
// far (Graham, Bounds on Multiprocessing Timing Anomalies, 1969), then exchanges between the
// rank with the most and the one with the least while these narrow the gap. A rank's samples are
// packed by first fit decreasing; its micro-batches begin with the one of the most work, so that
// ranks that wait for each other in each micro-batch have similar ones at the same time.
std::vector<SampleLists> deal_samples(std::span<const SampleCost> samples, int64_t ranks,
                                      int64_t rows);

}  // namespace facet
