// At stage 3: which stretches of a unit's flat buffers are gathered, and which stay on every rank
// because they hold small parameters only.
#pragma once

#include <cstdint>
#include <vector>

#include "zero/unit_slices.h"

namespace facet {

// Neighbours of one kind form one run; the padding belongs to the last one.
struct ValueRun {
  Slice range;         // of the trained or of the frozen buffer
  bool stays = false;  // on every rank
};
std::vector<ValueRun> trained_runs(const ParamUnit& unit, int64_t persistence_threshold);
std::vector<ValueRun> frozen_runs(const ParamUnit& unit, int ranks, int64_t persistence_threshold);

// Is there nothing in the unit to gather?
bool stays_whole(const ParamUnit& unit, int64_t persistence_threshold);

// Elements that a rank sends to make the unit whole everywhere, and after a step to make known what
// stays.
int64_t sent_to_gather(const ParamUnit& unit, int rank, int ranks, int64_t persistence_threshold);
int64_t sent_to_publish(const ParamUnit& unit, int rank, int ranks, int64_t persistence_threshold);

}  // namespace facet
