#include "zero/zero_plan.h"

#include <algorithm>

#include "zero/engine.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

bool reduces_every_micro_batch(const EngineOptions& options) {
  return options.zero_stage >= 2 || options.reduce_every_micro_batch;
}

}  // namespace

std::vector<int64_t> gathered_elements(const ParamTable& table, int ranks,
                                       const EngineOptions& options) {
  if (options.zero_stage < 3) return std::vector<int64_t>(table.units().size(), 0);
  return PartitionedValues::gathered_elements(table, ranks, options.stage3.persistence_threshold);
}

int64_t moment_bytes(const ParamTable& table, int ranks, int64_t zero_stage) {
  Arena plan("the optimizer state");
  for (const ParamUnit& unit : table.units()) {
    const int64_t stepped = trained_length(unit) / (zero_stage == 0 ? 1 : ranks);
    plan.tensor({stepped});
    plan.tensor({stepped});
  }
  return plan.peak();
}

ZeroBytes planned_bytes(const ParamTable& table, int ranks, const EngineOptions& options) {
  Arena values("parameters"), gradients("gradients");
  for (const ParamUnit& unit : table.units()) {
    const int64_t trained = trained_length(unit);
    values.tensor({trained}, table.dtype());
    values.tensor({unit.frozen_values.numel()}, table.dtype());
    if (options.zero_stage < 2) gradients.tensor({trained});
  }
  ZeroBytes bytes;
  bytes.values = values.peak();
  if (options.zero_stage >= 3) {
    const int64_t threshold = options.stage3.persistence_threshold;
    const auto kept = PartitionedValues::kept_bytes(table, ranks, threshold);
    bytes.values = kept.slices + kept.persistent;
    if (options.offload.params) {
      bytes.values_on_host = kept.slices;
      bytes.uploads = PartitionedValues::upload_bytes(table, ranks, threshold);
    }
  }
  bytes.gradients = gradients.peak();
  if (reduces_every_micro_batch(options)) bytes.gradients += Gradients::slice_bytes(table, ranks);
  bytes.optimizer = moment_bytes(table, ranks, options.zero_stage) +
                    Values::master_bytes(table, ranks, options.values());
  if (options.offload.optimizer)
    bytes.staging = OffloadedStep::staging_bytes(
        table.dtype(), OffloadedStep::longest(table, ranks, options.zero_stage),
        options.offload.chunk_elements);
  bytes.window = Values::window_bytes(table, ranks);
  return bytes;
}

int64_t owned_elements(const ParamTable& table, int ranks) {
  int64_t elements = 0;
  for (const ParamUnit& unit : table.units()) elements += trained_length(unit) / ranks;
  return elements;
}

MeasuringHooks::MeasuringHooks(const ParamTable& table, int ranks, const EngineOptions& options)
    : table_(table),
      ranks_(ranks),
      options_(options),
      elements_(gathered_elements(table, ranks, options)),
      residency_(elements_, options.stage3.residency, *this),
      values_("gathered parameters", ParamTable::Memory::kMeasureOnly, table.dtype()),
      gradients_("gradients of a unit", ParamTable::Memory::kMeasureOnly),
      value_buffers_(table.units().size(), -1),
      gradient_buffers_(table.units().size(), -1),
      gathers_(table.units().size()) {}

int64_t MeasuringHooks::bucket_bytes() const {
  return gradients_.bytes() + Gradients::bucket_bytes(table_, ranks_, options_.reduction);
}

void MeasuringHooks::gather(int unit) {
  const int64_t elements = elements_[static_cast<size_t>(unit)];
  value_buffers_[static_cast<size_t>(unit)] = values_.acquire(elements);
  ++gathers_[static_cast<size_t>(unit)];
}

void MeasuringHooks::drop_gathered(int unit) {
  values_.release(value_buffers_[static_cast<size_t>(unit)]);
}

void MeasuringHooks::before(int unit, Phase phase) {
  residency_.acquire(unit, phase);
  if (phase == Phase::kBackward) acquire_gradients(unit);
}

void MeasuringHooks::after(int unit, Phase) { residency_.release(unit); }

void MeasuringHooks::acquire_gradients(int unit) {
  const int64_t trained = trained_length(table_.units()[static_cast<size_t>(unit)]);
  int& buffer = gradient_buffers_[static_cast<size_t>(unit)];
  if (options_.zero_stage >= 2 && trained > 0 && buffer < 0) buffer = gradients_.acquire(trained);
}

void MeasuringHooks::gradients_ready(int unit) {
  micro_batches_ += unit == 0;  // announced once per micro-batch
  acquire_gradients(unit);
  int& buffer = gradient_buffers_[static_cast<size_t>(unit)];
  if (buffer >= 0) gradients_.release(buffer);
  buffer = -1;
}

std::vector<int64_t> MeasuringHooks::gathers_per_micro_batch() const {
  std::vector<int64_t> gathers = gathers_;
  for (int64_t& count : gathers) count /= std::max<int64_t>(1, micro_batches_);
  return gathers;
}

int64_t planned_elements(const ParamTable& table, int ranks, const EngineOptions& options,
                         int64_t micro_batches, const std::vector<int64_t>& gathers) {
  const int64_t reductions = reduces_every_micro_batch(options) ? micro_batches : 1;
  const int64_t threshold = options.stage3.persistence_threshold;
  int64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    int64_t sent = 0;
    for (size_t u = 0; u < gathers.size(); ++u) {
      const ParamUnit& unit = table.units()[u];
      const int64_t slices = trained_length(unit) / ranks * (ranks - 1);
      sent += reductions * slices;
      sent += options.zero_stage < 3 ? slices : sent_to_publish(unit, rank, ranks, threshold);
      sent += micro_batches * gathers[u] * sent_to_gather(unit, rank, ranks, threshold);
    }
    most = std::max(most, sent);
  }
  return most;
}

}  // namespace facet
