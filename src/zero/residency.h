// Stage 3: when the parameters of a unit are gathered (all-gathered from the ranks' slices),
// prefetched ahead of their use, and dropped again. Only decides; a UnitGatherer carries it out.
// All ranks take the same decisions, because all use the units in the same order whatever their
// data.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/context.h"

namespace facet {

class UnitGatherer {
 public:
  virtual ~UnitGatherer() = default;
  virtual void gather(int unit) = 0;         // all-gathers the unit and waits for it
  virtual void start_gather(int unit) = 0;   // starts the all-gather
  virtual void finish_gather(int unit) = 0;  // waits for an all-gather that was started
  virtual void drop_gathered(int unit) = 0;  // frees the gathered copy
  virtual void expect(int) {}                // the unit is likely to be the next one to be gathered
};

struct ResidencyLimits {
  int64_t prefetch_elements = 0;  // prefetched at most; 0: no prefetching
  int64_t max_live_elements = 0;  // gathered elements beyond which nothing is prefetched
};

class Residency {
 public:
  // elements: of each unit when gathered; 0: it is persistent and never gathered.
  Residency(std::vector<int64_t> elements, const ResidencyLimits& limits, UnitGatherer& gatherer);

  // Uses are counted: the first one gathers the unit, and may start to prefetch the units that
  // followed it the last time. Without prefetching the next of them is expected.
  void acquire(int unit, Phase phase);
  // For a use outside forward and backward: nothing is prefetched.
  void acquire_outside_pass(int unit);
  void release(int unit);
  // Drops what was prefetched and not used yet: the values are about to change.
  void drop_prefetched();

 private:
  // Identifies a unit's use in a pass: one number for forward, one for recomputation and backward.
  int use_of(int unit, Phase phase) const { return 2 * unit + (phase == Phase::kForward ? 0 : 1); }
  void record_use(int use);
  int following(int use) const;
  void expect_next(int use);
  void choose_prefetch(int use);
  void start_prefetch();
  void drop(size_t unit);

  std::vector<int64_t> elements_;
  ResidencyLimits limits_;
  UnitGatherer& gatherer_;
  std::vector<int> uses_;         // per unit: how often it is in use now
  std::vector<char> prefetched_;  // per unit: gather started, not used yet
  std::vector<int> next_use_;     // per use: the one that followed it last time, or -1
  std::vector<int> order_;        // per use: its index in the order of first uses, or -1
  int num_ordered_ = 0;
  int previous_ = -1;             // the last use
  std::vector<int> to_prefetch_;  // units to prefetch now
};

}  // namespace facet
