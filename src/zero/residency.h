// Which units are whole at stage 3, and which are gathered before they are asked for. Decides only;
// a UnitMover carries it out. Every rank decides alike, because every rank uses the units in the
// same order whatever its data.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/context.h"

namespace facet {

class UnitMover {
 public:
  virtual ~UnitMover() = default;
  virtual void fetch(int unit) = 0;      // makes the unit whole and waits for it
  virtual void start(int unit) = 0;      // begins to make it whole
  virtual void arrive(int unit) = 0;     // waits for what start began
  virtual void give_back(int unit) = 0;  // the unit is whole no longer
};

struct ResidencyLimits {
  int64_t prefetch_elements = 0;  // gathered ahead at most; 0: nothing is
  int64_t max_live_elements = 0;  // no gather ahead that would make more than these whole
};

class Residency {
 public:
  // elements: of each unit when it is whole; 0: it never moves.
  Residency(std::vector<int64_t> elements, const ResidencyLimits& limits, UnitMover& mover);

  // Uses are counted: the first one brings the unit, and what followed the last time may be
  // started.
  void acquire(int unit, Phase phase);
  // Outside a pass over the model.
  void acquire_alone(int unit);
  void release(int unit);
  // Waits for what was started and gives it back: the values are about to change.
  void drop_started();

 private:
  // A use of a unit, as a place in the order of a pass: forward apart from the rest.
  int use_of(int unit, Phase phase) const { return 2 * unit + (phase == Phase::kForward ? 0 : 1); }
  void learn(int use);
  void choose_ahead(int use);
  void start_ahead();
  void drop(size_t unit);

  std::vector<int64_t> elements_;
  ResidencyLimits limits_;
  UnitMover& mover_;
  std::vector<int> uses_;      // of each unit, now
  std::vector<char> started_;  // of each unit: under way, not yet used
  std::vector<int> follower_;  // of each use: the one that came after it last time, or -1
  std::vector<int> place_;     // of each use: how many others were met before it, or -1
  int places_ = 0;
  int previous_ = -1;       // the last use
  std::vector<int> ahead_;  // units to gather ahead now
};

}  // namespace facet
