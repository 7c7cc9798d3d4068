// Ranks that are threads of a test.
#pragma once

#include <barrier>
#include <cstdint>
#include <functional>
#include <vector>

#include "data/step_dealer.h"

namespace facet {

// What they exchange their lengths through.
class RankThreads {
 public:
  explicit RankThreads(int64_t count) : parts_(static_cast<size_t>(count)), all_here_(count) {}

  ExchangeOfRanks exchange_of(int64_t rank) {
    return [this, rank](size_t, const std::function<std::vector<double>()>& measure) {
      parts_[static_cast<size_t>(rank)] = measure();
      all_here_.arrive_and_wait();
      std::vector<double> all;
      for (const auto& part : parts_) all.insert(all.end(), part.begin(), part.end());
      all_here_.arrive_and_wait();
      return all;
    };
  }

 private:
  std::vector<std::vector<double>> parts_;
  std::barrier<> all_here_;
};

}  // namespace facet
