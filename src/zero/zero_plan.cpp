#include "zero/zero_plan.h"

#include "zero/engine.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

bool reduces_every_micro_batch(const EngineOptions& options) {
  return options.zero_stage >= 2 || options.reduce_every_micro_batch;
}

bool comes_and_goes(const ParamUnit& unit, const EngineOptions& options) {
  return options.zero_stage >= 3 &&
         !PartitionedValues::stays_whole(unit, options.persistence_threshold);
}

}  // namespace

ZeroBytes planned_bytes(const ParamTable& table, int ranks, const EngineOptions& options) {
  Arena values("parameters"), gradients("gradients"), optimizer("the optimizer state");
  for (const ParamUnit& unit : table.units()) {
    const int64_t trained = trained_length(unit);
    values.tensor({trained});
    values.tensor({unit.frozen_values.numel()});
    if (options.zero_stage < 2) gradients.tensor({trained});
    optimizer.tensor({trained / (options.zero_stage == 0 ? 1 : ranks)});
    optimizer.tensor({trained / (options.zero_stage == 0 ? 1 : ranks)});
  }
  ZeroBytes bytes{values.peak(), gradients.peak(), optimizer.peak()};
  if (options.zero_stage >= 3)
    bytes.values = PartitionedValues::kept_bytes(table, ranks, options.persistence_threshold);
  if (reduces_every_micro_batch(options)) bytes.gradients += Gradients::slice_bytes(table, ranks);
  return bytes;
}

MeasuringHooks::MeasuringHooks(const ParamTable& table, int ranks, const EngineOptions& options)
    : table_(table),
      ranks_(ranks),
      options_(options),
      values_("gathered parameters", ParamTable::Memory::kMeasureOnly),
      gradients_("gradients of a unit", ParamTable::Memory::kMeasureOnly),
      uses_(table.units().size()) {}

void MeasuringHooks::before(int number, Phase phase) {
  const ParamUnit& unit = table_.units()[static_cast<size_t>(number)];
  Use& use = uses_[static_cast<size_t>(number)];
  const int64_t trained = trained_length(unit);
  if (comes_and_goes(unit, options_) && use.count++ == 0) {
    const int64_t elements = trained + frozen_length(unit, ranks_);
    use.values = values_.acquire(elements);
    elements_gathered_ += elements / ranks_ * (ranks_ - 1);
  }
  if (phase == Phase::kBackward && options_.zero_stage >= 2 && trained > 0 && use.gradients < 0)
    use.gradients = gradients_.acquire(trained);
}

void MeasuringHooks::after(int number, Phase) {
  const ParamUnit& unit = table_.units()[static_cast<size_t>(number)];
  Use& use = uses_[static_cast<size_t>(number)];
  if (comes_and_goes(unit, options_) && --use.count == 0) values_.release(use.values);
}

void MeasuringHooks::gradients_ready(int number) {
  micro_batches_ += number == 0;  // once for each unit
  const int64_t trained = trained_length(table_.units()[static_cast<size_t>(number)]);
  if (options_.zero_stage < 2 || trained == 0) return;
  Use& use = uses_[static_cast<size_t>(number)];
  if (use.gradients < 0) use.gradients = gradients_.acquire(trained);
  gradients_.release(use.gradients);
  use.gradients = -1;
}

int64_t planned_elements(const ParamTable& table, int ranks, const EngineOptions& options,
                         int64_t micro_batches, int64_t gathered) {
  int64_t trained = 0, published = 0;
  for (const ParamUnit& unit : table.units()) {
    trained += trained_length(unit);
    if (!comes_and_goes(unit, options)) published += trained_length(unit);
  }
  const int64_t reductions = reduces_every_micro_batch(options) ? micro_batches : 1;
  return (reductions * trained + published) / ranks * (ranks - 1) + micro_batches * gathered;
}

}  // namespace facet
