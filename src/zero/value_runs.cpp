#include "zero/value_runs.h"

#include <algorithm>

namespace facet {
namespace {

std::vector<ValueRun> runs_of(const ParamUnit& unit, bool trained, int64_t length,
                              int64_t persistence_threshold) {
  std::vector<ValueRun> runs;
  for (const Param* param : unit.params) {
    if (param->trained != trained) continue;
    const bool persistent = param->numel() < persistence_threshold;
    if (runs.empty() || runs.back().persistent != persistent)
      runs.push_back({{param->offset, param->numel()}, persistent});
    else
      runs.back().range.count += param->numel();
  }
  if (!runs.empty()) runs.back().range.count = length - runs.back().range.begin;
  return runs;
}

// Elements of the runs of one kind that lie in the rank's slice of the buffer.
int64_t held(const std::vector<ValueRun>& runs, bool persistent, const Slice& slice) {
  int64_t elements = 0;
  for (const ValueRun& run : runs)
    if (run.persistent == persistent) elements += overlap(run.range, slice).count;
  return elements;
}

}  // namespace

std::vector<ValueRun> trained_runs(const ParamUnit& unit, int64_t persistence_threshold) {
  return runs_of(unit, true, trained_length(unit), persistence_threshold);
}

std::vector<ValueRun> frozen_runs(const ParamUnit& unit, int ranks, int64_t persistence_threshold) {
  return runs_of(unit, false, frozen_length(unit, ranks), persistence_threshold);
}

bool is_persistent(const ParamUnit& unit, int64_t persistence_threshold) {
  return std::all_of(unit.params.begin(), unit.params.end(),
                     [=](const Param* param) { return param->numel() < persistence_threshold; });
}

int64_t sent_to_gather(const ParamUnit& unit, int rank, int ranks, int64_t persistence_threshold) {
  const Slice trained = slice_of_rank(trained_length(unit), rank, ranks);
  const Slice frozen = slice_of_rank(frozen_length(unit, ranks), rank, ranks);
  return (held(trained_runs(unit, persistence_threshold), false, trained) +
          held(frozen_runs(unit, ranks, persistence_threshold), false, frozen)) *
         (ranks - 1);
}

int64_t sent_to_publish(const ParamUnit& unit, int rank, int ranks, int64_t persistence_threshold) {
  const Slice trained = slice_of_rank(trained_length(unit), rank, ranks);
  return held(trained_runs(unit, persistence_threshold), true, trained) * (ranks - 1);
}

}  // namespace facet
