// Stage 3: which runs of a unit's flat buffers are partitioned and gathered, and which are
// persistent (kept on every rank) because they hold only small parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "zero/unit_slices.h"

namespace facet {

// Neighbouring parameters of one kind form one run; the padding belongs to the last run.
struct ValueRun {
  Slice range;              // of the trained or of the frozen buffer
  bool persistent = false;  // kept on every rank
};
std::vector<ValueRun> trained_runs(const ParamUnit& unit, int64_t persistence_threshold);
std::vector<ValueRun> frozen_runs(const ParamUnit& unit, int ranks, int64_t persistence_threshold);

// Is every parameter of the unit persistent, so that there is nothing to gather?
bool is_persistent(const ParamUnit& unit, int64_t persistence_threshold);

// Elements that a rank sends when the unit is gathered, and when its persistent parameters are
// all-gathered after an optimizer step.
int64_t sent_to_gather(const ParamUnit& unit, int rank, int ranks, int64_t persistence_threshold);
int64_t sent_to_publish(const ParamUnit& unit, int rank, int ranks, int64_t persistence_threshold);

}  // namespace facet
