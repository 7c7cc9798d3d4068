#include "zero/partitioned_values.h"

#include <exception>

#include "base/check.h"
#include "zero/host_values.h"
#include "zero/unit_slices.h"

namespace facet {

std::vector<int64_t> PartitionedValues::gathered_elements(const ParamTable& table, int ranks,
                                                          int64_t persistence_threshold) {
  std::vector<int64_t> elements;
  for (const ParamUnit& unit : table.units())
    elements.push_back(facet::is_persistent(unit, persistence_threshold)
                           ? 0
                           : trained_length(unit) + frozen_length(unit, ranks));
  return elements;
}

int64_t PartitionedValues::kept_bytes(const ParamTable& table, int ranks,
                                      int64_t persistence_threshold) {
  Arena plan("parameters");
  for (const ParamUnit& unit : table.units())
    allocate_unit(plan, unit, ranks, persistence_threshold);
  return plan.peak();
}

// ---- the slices and persistent parameters of a rank

PartitionedValues::Unit PartitionedValues::allocate_unit(Arena& memory, const ParamUnit& layout,
                                                         int ranks, int64_t persistence_threshold) {
  Unit unit;
  unit.is_persistent = facet::is_persistent(layout, persistence_threshold);
  unit.trained.layout = layout.trained_values;
  unit.frozen.layout = layout.frozen_values;
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, ranks);
  if (unit.is_persistent) {
    unit.trained.slice = memory.tensor({trained}, layout.trained_values.dtype());
    unit.frozen.slice = memory.tensor({frozen}, layout.frozen_values.dtype());
  } else {
    allocate_buffer(memory, unit.trained, trained_runs(layout, persistence_threshold),
                    trained / ranks);
    allocate_buffer(memory, unit.frozen, frozen_runs(layout, ranks, persistence_threshold),
                    frozen / ranks);
  }
  return unit;
}

void PartitionedValues::allocate_buffer(Arena& memory, Buffer& buffer,
                                        const std::vector<ValueRun>& runs, int64_t slice) {
  const DType dtype = buffer.layout.dtype();
  buffer.slice = memory.tensor({slice}, dtype);
  for (const ValueRun& run : runs) {
    Run& taken = buffer.runs.emplace_back();
    taken.range = run.range;
    if (run.persistent) taken.persistent = memory.tensor({run.range.count}, dtype);
  }
}

// Computes which part of each run lies in which rank's slice.
void PartitionedValues::partition(Buffer& buffer, int64_t length) const {
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
    Unit& unit = units_.emplace_back(allocate_unit(*memory_, layout, ranks, threshold));
    for (const Buffer* buffer : {&unit.trained, &unit.frozen})
      if (const Tensor& slice = buffer->slice; slice.numel() > 0)
        ops_.memory().zero(slice.raw(), slice.bytes());
    partition(unit.trained, trained_length(layout));
    partition(unit.frozen, frozen_length(layout, ranks));
    if (!unit.is_persistent) continue;
    const Tensor trained = unit.trained.persistent = unit.trained.slice;
    table.bind_values(number, trained,
                      flat_range(unit.frozen.slice, 0, unit.frozen.layout.numel()));
    unit.trained.slice = flat_range(trained, slice_of_rank(trained.numel(), world.rank(), ranks));
  }
  UnitGatherer& self = *this;
  residency_.emplace(gathered_elements(table, ranks, threshold), limits.residency, self);
}

// While an exception unwinds this rank, the others may never start the collectives it would wait
// for. MPI may still write to the buffers until the job is aborted, so they are leaked.
PartitionedValues::~PartitionedValues() {
  if (std::uncaught_exceptions() == 0) {
    residency_->drop_prefetched();
  } else {
    static_cast<void>(pool_.release());
    static_cast<void>(memory_.release());
  }
}

PartitionedValues::Gathered PartitionedValues::gathered(int number) const {
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

// Makes the unit's tensors point into its gathered buffer.
void PartitionedValues::bind(int number) {
  const auto [trained, frozen] = gathered(number);
  const int64_t elements = units_[static_cast<size_t>(number)].frozen.layout.numel();
  table_.bind_values(number, trained, flat_range(frozen, 0, elements));
}

void PartitionedValues::drop_gathered(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  table_.bind_values(number, unit.trained.layout, unit.frozen.layout);
  pool_->release(unit.buffer);
  unit.buffer = -1;
}

// ---- gathering units

void PartitionedValues::gather(int number) {
  start_gather(number);
  finish_gather(number);
}

void PartitionedValues::start_gather(int number) {
  acquire(number);
  const auto [trained, frozen] = gathered(number);
  start_gather(units_[static_cast<size_t>(number)].trained, trained);
  start_gather(units_[static_cast<size_t>(number)].frozen, frozen);
}

void PartitionedValues::start_gather(Buffer& buffer, const Tensor& whole) {
  for (Run& run : buffer.runs) {
    const Tensor place = flat_range(whole, run.range);
    if (run.persistent.defined())
      ops_.copy(place, run.persistent);
    else
      run.pending = world_.start_all_gather(place, flat_range(buffer.slice, run.own), run.parts);
  }
}

void PartitionedValues::finish_gather(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  for (Buffer* buffer : {&unit.trained, &unit.frozen})
    for (Run& run : buffer->runs) world_.wait(run.pending);
  bind(number);
}

// ---- changed values

void PartitionedValues::store(int number, const Tensor& trained, const Tensor& frozen) {
  Unit& unit = units_[static_cast<size_t>(number)];
  ASSERT(unit.buffer < 0, "a unit is filled while it is in use");
  if (unit.is_persistent) {
    store_values(ops_, unit.trained.persistent, trained);
    store_values(ops_, unit.frozen.slice, frozen);
  } else {
    store(unit.trained, trained);
    store(unit.frozen, frozen);
  }
}

void PartitionedValues::store(const Buffer& buffer, const Tensor& whole) const {
  store_values(ops_, buffer.slice,
               flat_range(whole, slice_of_rank(whole.numel(), world_.rank(), world_.size())));
  for (const Run& run : buffer.runs)
    if (run.persistent.defined()) store_values(ops_, run.persistent, flat_range(whole, run.range));
}

void PartitionedValues::publish() {
  for (Unit& unit : units_) publish(unit.trained);
}

void PartitionedValues::publish(Buffer& buffer) {
  if (buffer.persistent.defined() && buffer.persistent.numel() > 0)
    world_.all_gather(buffer.persistent, buffer.slice);
  for (Run& run : buffer.runs) {
    if (!run.persistent.defined()) continue;
    run.pending =
        world_.start_all_gather(run.persistent, flat_range(buffer.slice, run.own), run.parts);
    world_.wait(run.pending);
  }
}

}  // namespace facet
