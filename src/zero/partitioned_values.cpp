#include "zero/partitioned_values.h"

#include <exception>

#include "base/check.h"
#include "zero/host_values.h"
#include "zero/unit_slices.h"

namespace facet {

std::vector<int64_t> PartitionedValues::moving_elements(const ParamTable& table, int ranks,
                                                        int64_t persistence_threshold) {
  std::vector<int64_t> elements;
  for (const ParamUnit& unit : table.units())
    elements.push_back(facet::stays_whole(unit, persistence_threshold)
                           ? 0
                           : trained_length(unit) + frozen_length(unit, ranks));
  return elements;
}

int64_t PartitionedValues::kept_bytes(const ParamTable& table, int ranks,
                                      int64_t persistence_threshold) {
  Arena plan("parameters");
  for (const ParamUnit& unit : table.units()) take_unit(plan, unit, ranks, persistence_threshold);
  return plan.peak();
}

// ---- what a rank keeps

PartitionedValues::Unit PartitionedValues::take_unit(Arena& memory, const ParamUnit& layout,
                                                     int ranks, int64_t persistence_threshold) {
  Unit unit;
  unit.stays_whole = facet::stays_whole(layout, persistence_threshold);
  unit.trained.layout = layout.trained_values;
  unit.frozen.layout = layout.frozen_values;
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, ranks);
  if (unit.stays_whole) {
    unit.trained.slice = memory.tensor({trained}, layout.trained_values.dtype());
    unit.frozen.slice = memory.tensor({frozen}, layout.frozen_values.dtype());
  } else {
    take_buffer(memory, unit.trained, trained_runs(layout, persistence_threshold), trained / ranks);
    take_buffer(memory, unit.frozen, frozen_runs(layout, ranks, persistence_threshold),
                frozen / ranks);
  }
  return unit;
}

void PartitionedValues::take_buffer(Arena& memory, Buffer& buffer,
                                    const std::vector<ValueRun>& runs, int64_t slice) {
  const DType dtype = buffer.layout.dtype();
  buffer.slice = memory.tensor({slice}, dtype);
  for (const ValueRun& run : runs) {
    Run& taken = buffer.runs.emplace_back();
    taken.range = run.range;
    if (run.stays) taken.copy = memory.tensor({run.range.count}, dtype);
  }
}

// Which rank has what of each run.
void PartitionedValues::cut(Buffer& buffer, int64_t length) const {
  for (Run& run : buffer.runs)
    for (int rank = 0; rank < world_.size(); ++rank) {
      const Slice slice = slice_of_rank(length, rank, world_.size());
      const Slice part = overlap(run.range, slice);
      run.parts.counts.push_back(static_cast<int>(part.count));
      run.parts.offsets.push_back(part.count == 0 ? 0
                                                  : static_cast<int>(part.begin - run.range.begin));
      if (rank == world_.rank())
        run.own = {part.count == 0 ? 0 : part.begin - slice.begin, part.count};
    }
}

PartitionedValues::PartitionedValues(ParamTable& table, Communicator& world, Backend& ops,
                                     const ValueLimits& limits)
    : table_(table),
      world_(world),
      ops_(ops),
      pool_(std::make_unique<UnitPool>("gathered parameters", ParamTable::Memory::kReal,
                                       table.dtype(), ops.memory())) {
  const int ranks = world.size();
  const int64_t threshold = limits.persistence_threshold;
  memory_ =
      std::make_unique<Arena>("parameters", kept_bytes(table, ranks, threshold), ops.memory());
  for (ParamUnit& layout : table.units()) {
    const auto number = static_cast<int>(units_.size());
    Unit& unit = units_.emplace_back(take_unit(*memory_, layout, ranks, threshold));
    for (const Buffer* buffer : {&unit.trained, &unit.frozen})
      if (const Tensor& slice = buffer->slice; slice.numel() > 0)
        ops_.memory().zero(slice.raw(), slice.bytes());
    cut(unit.trained, trained_length(layout));
    cut(unit.frozen, frozen_length(layout, ranks));
    if (!unit.stays_whole) continue;
    const Tensor trained = unit.trained.always = unit.trained.slice;
    table.bind_values(number, trained,
                      flat_range(unit.frozen.slice, 0, unit.frozen.layout.numel()));
    unit.trained.slice = flat_range(trained, slice_of_rank(trained.numel(), world.rank(), ranks));
  }
  UnitMover& self = *this;
  residency_.emplace(moving_elements(table, ranks, threshold), limits.residency, self);
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

void PartitionedValues::acquire(int number) {
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  units_[static_cast<size_t>(number)].buffer =
      pool_->acquire(trained_length(layout) + frozen_length(layout, world_.size()));
}

// The unit's tensors point to its buffer from here on.
void PartitionedValues::bind(int number) {
  const auto [trained, frozen] = whole(number);
  const int64_t elements = units_[static_cast<size_t>(number)].frozen.layout.numel();
  table_.bind_values(number, trained, flat_range(frozen, 0, elements));
}

void PartitionedValues::give_back(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  table_.bind_values(number, unit.trained.layout, unit.frozen.layout);
  pool_->release(unit.buffer);
  unit.buffer = -1;
}

// ---- units that become whole

void PartitionedValues::fetch(int number) {
  start(number);
  arrive(number);
}

void PartitionedValues::start(int number) {
  acquire(number);
  const auto [trained, frozen] = whole(number);
  gather(units_[static_cast<size_t>(number)].trained, trained);
  gather(units_[static_cast<size_t>(number)].frozen, frozen);
}

void PartitionedValues::gather(Buffer& buffer, const Tensor& whole) {
  for (Run& run : buffer.runs) {
    const Tensor place = flat_range(whole, run.range);
    if (run.copy.defined())
      ops_.copy(place, run.copy);
    else
      run.on_its_way = world_.start_all_gather(place, flat_range(buffer.slice, run.own), run.parts);
  }
}

void PartitionedValues::arrive(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  for (Buffer* buffer : {&unit.trained, &unit.frozen})
    for (Run& run : buffer->runs) world_.wait(run.on_its_way);
  bind(number);
}

// ---- values that change

void PartitionedValues::keep(int number, const Tensor& trained, const Tensor& frozen) {
  Unit& unit = units_[static_cast<size_t>(number)];
  ASSERT(unit.buffer < 0, "a unit in use is filled");
  if (unit.stays_whole) {
    store_values(ops_, unit.trained.always, trained);
    store_values(ops_, unit.frozen.slice, frozen);
  } else {
    keep(unit.trained, trained);
    keep(unit.frozen, frozen);
  }
}

void PartitionedValues::keep(const Buffer& buffer, const Tensor& whole) const {
  store_values(ops_, buffer.slice,
               flat_range(whole, slice_of_rank(whole.numel(), world_.rank(), world_.size())));
  for (const Run& run : buffer.runs)
    if (run.copy.defined()) store_values(ops_, run.copy, flat_range(whole, run.range));
}

void PartitionedValues::publish() {
  for (Unit& unit : units_) publish(unit.trained);
}

void PartitionedValues::publish(Buffer& buffer) {
  if (buffer.always.defined() && buffer.always.numel() > 0)
    world_.all_gather(buffer.always, buffer.slice);
  for (Run& run : buffer.runs) {
    if (!run.copy.defined()) continue;
    run.on_its_way =
        world_.start_all_gather(run.copy, flat_range(buffer.slice, run.own), run.parts);
    world_.wait(run.on_its_way);
  }
}

}  // namespace facet
