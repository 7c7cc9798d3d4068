// What `facet data-stats` prints: a table, a row a data set, and sentences about what to change.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "data/sample_statistics.h"

namespace facet {

struct DataStatsReport {
  struct Set {
    std::string name;
    int64_t records = 0;
    int64_t training = 0;  // samples of the training split
    int64_t places = 0;    // of an epoch
    SetStatistics statistics = {};

    // How often a sample of it is seen in an epoch.
    double seen() const { return static_cast<double>(places) / static_cast<double>(training); }
  };
  std::vector<Set> sets;
  bool weighted = false;  // --dataset_weights
  int64_t image_tokens = 1;
  int64_t max_seq_len = 0;
  bool skips_bad = false;  // --bad_samples skip
  double max_bad_fraction = 0.01;

  // How often a sample counts among those of all sets.
  double weight_of(const Set& set) const { return weighted ? set.seen() : 1; }
};

// Lengths of samples, or any numbers of them, with their weights.
struct Distribution {
  std::map<int64_t, double> weights;
  double above = 0;  // the weight of those whose number is not known, because it is too large

  void add(const Counts& counts, int64_t above_them, double weight);
  double total() const;
  double mean() const;                      // of the known ones
  double share_above(int64_t limit) const;  // in [0, 1]
};
Distribution lengths_of(const SetStatistics& set);
// Of all sets, each as often as an epoch sees it.
Distribution lengths_of_mixture(const DataStatsReport& report);

// "3.14 %"
std::string percent_text(double share);

std::string data_stats_table(const DataStatsReport& report);
std::vector<std::string> data_stats_sentences(const DataStatsReport& report);

}  // namespace facet
