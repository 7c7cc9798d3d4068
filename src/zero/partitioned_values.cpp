#include "zero/partitioned_values.h"

#include <cstring>
#include <exception>

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

bool is_small(const ParamUnit& unit, int64_t persistence_threshold) {
  int64_t elements = 0;
  for (const Param* param : unit.params) elements += param->numel();
  return elements < persistence_threshold;
}

// Values are written to and read from host memory here: nothing is gathered to a device yet.
void copy(const Tensor& to, const Tensor& from) {
  if (from.numel() > 0) std::memcpy(to.raw(), from.raw(), static_cast<size_t>(from.bytes()));
}

}  // namespace

std::vector<int64_t> PartitionedValues::moving_elements(const ParamTable& table, int ranks,
                                                        int64_t persistence_threshold) {
  std::vector<int64_t> elements;
  for (const ParamUnit& unit : table.units())
    elements.push_back(is_small(unit, persistence_threshold)
                           ? 0
                           : trained_length(unit) + frozen_length(unit, ranks));
  return elements;
}

int64_t PartitionedValues::kept_bytes(const ParamTable& table, int ranks,
                                      int64_t persistence_threshold) {
  Arena plan("parameters");
  for (const ParamUnit& unit : table.units()) {
    const int64_t parts = is_small(unit, persistence_threshold) ? 1 : ranks;
    plan.tensor({trained_length(unit) / parts});
    plan.tensor({frozen_length(unit, ranks) / parts});
  }
  return plan.peak();
}

PartitionedValues::PartitionedValues(ParamTable& table, Communicator& world,
                                     const ValueLimits& limits)
    : table_(table),
      world_(world),
      pool_(std::make_unique<UnitPool>("gathered parameters", ParamTable::Memory::kReal)) {
  const int ranks = world.size();
  memory_ =
      std::make_unique<Arena>("parameters", kept_bytes(table, ranks, limits.persistence_threshold));
  for (ParamUnit& layout : table.units()) {
    Unit& unit = units_.emplace_back();
    unit.stays_whole = is_small(layout, limits.persistence_threshold);
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
  UnitMover& self = *this;
  residency_.emplace(moving_elements(table, ranks, limits.persistence_threshold), limits.residency,
                     self);
}

// While an error unwinds this rank, the others may never start what it waits for. MPI may still
// write to the buffers until the job is aborted, so they stay.
PartitionedValues::~PartitionedValues() {
  if (std::uncaught_exceptions() == 0) {
    residency_->drop_started();
  } else {
    static_cast<void>(pool_.release());
    static_cast<void>(memory_.release());
  }
}

PartitionedValues::Whole PartitionedValues::whole(int number) const {
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, world_.size());
  const Tensor all = pool_->buffer(units_[static_cast<size_t>(number)].buffer, trained + frozen);
  return {flat_range(all, 0, trained), flat_range(all, trained, frozen)};
}

void PartitionedValues::take_buffer(int number) {
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  units_[static_cast<size_t>(number)].buffer =
      pool_->acquire(trained_length(layout) + frozen_length(layout, world_.size()));
}

// The unit's tensors point to its buffer from here on.
void PartitionedValues::bind(int number) {
  const auto [trained, frozen] = whole(number);
  const int64_t elements = units_[static_cast<size_t>(number)].frozen_layout.numel();
  table_.bind_values(number, trained, flat_range(frozen, 0, elements));
}

void PartitionedValues::give_back(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  table_.bind_values(number, unit.trained_layout, unit.frozen_layout);
  pool_->release(unit.buffer);
  unit.buffer = -1;
}

void PartitionedValues::fetch(int number) {
  const Unit& unit = units_[static_cast<size_t>(number)];
  take_buffer(number);
  const auto [trained, frozen] = whole(number);
  if (trained.numel() > 0) world_.all_gather(trained, unit.trained);
  if (frozen.numel() > 0) world_.all_gather(frozen, unit.frozen);
  bind(number);
}

void PartitionedValues::start(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  take_buffer(number);
  const auto [trained, frozen] = whole(number);
  if (trained.numel() > 0) unit.trained_on_its_way = world_.start_all_gather(trained, unit.trained);
  if (frozen.numel() > 0) unit.frozen_on_its_way = world_.start_all_gather(frozen, unit.frozen);
}

void PartitionedValues::arrive(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  world_.wait(unit.trained_on_its_way);
  world_.wait(unit.frozen_on_its_way);
  bind(number);
}

void PartitionedValues::open_to_fill(int number) {
  if (units_[static_cast<size_t>(number)].stays_whole) return;
  ASSERT(units_[static_cast<size_t>(number)].buffer < 0, "a unit in use is filled");
  take_buffer(number);
  // The padding is part of the slices, and of the norms.
  for (const Tensor& part : {whole(number).trained, whole(number).frozen})
    std::memset(part.raw(), 0, static_cast<size_t>(part.bytes()));
  bind(number);
}

void PartitionedValues::keep_slices(int number) {
  const Unit& unit = units_[static_cast<size_t>(number)];
  if (unit.stays_whole) return;
  const auto [trained, frozen] = whole(number);
  const int rank = world_.rank(), ranks = world_.size();
  copy(unit.trained, flat_range(trained, slice_of_rank(trained.numel(), rank, ranks)));
  copy(unit.frozen, flat_range(frozen, slice_of_rank(frozen.numel(), rank, ranks)));
  give_back(number);
}

}  // namespace facet
