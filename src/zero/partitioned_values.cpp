#include "zero/partitioned_values.h"

#include <cstring>

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

int64_t whole_length(const ParamUnit& unit, int ranks) {
  return trained_length(unit) + frozen_length(unit, ranks);
}

// Values are written to and read from host memory here: nothing is gathered to a device yet.
void copy(const Tensor& to, const Tensor& from) {
  if (from.numel() > 0) std::memcpy(to.raw(), from.raw(), static_cast<size_t>(from.bytes()));
}

}  // namespace

bool PartitionedValues::stays_whole(const ParamUnit& unit, int64_t persistence_threshold) {
  int64_t elements = 0;
  for (const Param* param : unit.params) elements += param->numel();
  return elements < persistence_threshold;
}

int64_t PartitionedValues::kept_bytes(const ParamTable& table, int ranks,
                                      int64_t persistence_threshold) {
  Arena plan("parameters");
  for (const ParamUnit& unit : table.units()) {
    const int64_t parts = stays_whole(unit, persistence_threshold) ? 1 : ranks;
    plan.tensor({trained_length(unit) / parts});
    plan.tensor({frozen_length(unit, ranks) / parts});
  }
  return plan.peak();
}

PartitionedValues::PartitionedValues(ParamTable& table, Communicator& world,
                                     int64_t persistence_threshold)
    : table_(table), world_(world), pool_("gathered parameters", ParamTable::Memory::kReal) {
  const int ranks = world.size();
  memory_ = std::make_unique<Arena>("parameters", kept_bytes(table, ranks, persistence_threshold));
  for (ParamUnit& layout : table.units()) {
    Unit& unit = units_.emplace_back();
    unit.stays_whole = stays_whole(layout, persistence_threshold);
    unit.trained_layout = layout.trained_values;
    unit.frozen_layout = layout.frozen_values;
    const int64_t trained = trained_length(layout), frozen = frozen_length(layout, ranks);
    const int64_t parts = unit.stays_whole ? 1 : ranks;
    unit.trained = memory_->tensor({trained / parts});
    unit.frozen = memory_->tensor({frozen / parts});
    std::memset(unit.trained.raw(), 0, static_cast<size_t>(unit.trained.bytes()));
    std::memset(unit.frozen.raw(), 0, static_cast<size_t>(unit.frozen.bytes()));
    if (!unit.stays_whole) continue;
    table.bind_values(static_cast<int>(units_.size()) - 1, unit.trained,
                      flat_range(unit.frozen, 0, unit.frozen_layout.numel()));
    unit.trained = flat_range(unit.trained, slice_of_rank(trained, world.rank(), ranks));
  }
}

// Binds the unit to a buffer of the pool: trained values, then frozen ones.
void PartitionedValues::make_whole(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, world_.size());
  unit.buffer = pool_.acquire(trained + frozen);
  const Tensor whole = pool_.buffer(unit.buffer, trained + frozen);
  table_.bind_values(number, flat_range(whole, 0, trained),
                     flat_range(whole, trained, unit.frozen_layout.numel()));
}

void PartitionedValues::give_back(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  table_.bind_values(number, unit.trained_layout, unit.frozen_layout);
  pool_.release(unit.buffer);
  unit.buffer = -1;
}

void PartitionedValues::acquire(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  if (unit.stays_whole || unit.uses++ > 0) return;
  make_whole(number);
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, world_.size());
  const Tensor whole = pool_.buffer(unit.buffer, trained + frozen);
  if (trained > 0) world_.all_gather(flat_range(whole, 0, trained), unit.trained);
  if (frozen > 0) world_.all_gather(flat_range(whole, trained, frozen), unit.frozen);
}

void PartitionedValues::release(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  if (unit.stays_whole) return;
  ASSERT(unit.uses > 0, "unit {} is released more often than it was taken",
         table_.units()[static_cast<size_t>(number)].name);
  if (--unit.uses == 0) give_back(number);
}

void PartitionedValues::open_to_fill(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  if (unit.stays_whole) return;
  ASSERT(unit.uses == 0, "a unit in use is filled");
  unit.uses = 1;
  make_whole(number);
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  // The padding is part of the slices, and of the norms.
  const Tensor whole = pool_.buffer(unit.buffer, whole_length(layout, world_.size()));
  std::memset(whole.raw(), 0, static_cast<size_t>(whole.bytes()));
}

void PartitionedValues::keep_slices(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  if (unit.stays_whole) return;
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, world_.size());
  const Tensor whole = pool_.buffer(unit.buffer, trained + frozen);
  copy(unit.trained, flat_range(whole, slice_of_rank(trained, world_.rank(), world_.size())));
  Slice slice = slice_of_rank(frozen, world_.rank(), world_.size());
  slice.begin += trained;
  copy(unit.frozen, flat_range(whole, slice));
  release(number);
}

}  // namespace facet
