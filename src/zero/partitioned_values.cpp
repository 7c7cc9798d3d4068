#include "zero/partitioned_values.h"

#include <algorithm>
#include <exception>

#include "base/check.h"
#include "zero/host_values.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

// Elements of a rank's slices of the unit that has most of them and is gathered.
int64_t longest_slices(const ParamTable& table, int ranks, int64_t persistence_threshold) {
  const std::vector<int64_t> gathered =
      PartitionedValues::gathered_elements(table, ranks, persistence_threshold);
  return gathered.empty() ? 0 : *std::max_element(gathered.begin(), gathered.end()) / ranks;
}

}  // namespace

std::vector<int64_t> PartitionedValues::gathered_elements(const ParamTable& table, int ranks,
                                                          int64_t persistence_threshold) {
  std::vector<int64_t> elements;
  for (const ParamUnit& unit : table.units())
    elements.push_back(facet::is_persistent(unit, persistence_threshold)
                           ? 0
                           : trained_length(unit) + frozen_length(unit, ranks));
  return elements;
}

PartitionedValues::KeptBytes PartitionedValues::kept_bytes(const ParamTable& table, int ranks,
                                                           int64_t persistence_threshold) {
  Arena slices("parameters"), persistent("persistent parameters");
  for (const ParamUnit& unit : table.units())
    allocate_unit({slices, persistent}, unit, ranks, persistence_threshold);
  return {slices.peak(), persistent.peak()};
}

int64_t PartitionedValues::upload_bytes(const ParamTable& table, int ranks,
                                        int64_t persistence_threshold) {
  return SliceUploads::bytes(table.dtype(), longest_slices(table, ranks, persistence_threshold));
}

// ---- the slices and persistent parameters of a rank

PartitionedValues::Unit PartitionedValues::allocate_unit(const Memory& memory,
                                                         const ParamUnit& layout, int ranks,
                                                         int64_t persistence_threshold) {
  Unit unit;
  unit.is_persistent = facet::is_persistent(layout, persistence_threshold);
  unit.trained.layout = layout.trained_values;
  unit.frozen.layout = layout.frozen_values;
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, ranks);
  if (unit.is_persistent) {
    unit.trained.slice = memory.persistent.tensor({trained}, layout.trained_values.dtype());
    unit.frozen.slice = memory.persistent.tensor({frozen}, layout.frozen_values.dtype());
  } else {
    allocate_buffer(memory, unit.trained, trained_runs(layout, persistence_threshold),
                    trained / ranks);
    allocate_buffer(memory, unit.frozen, frozen_runs(layout, ranks, persistence_threshold),
                    frozen / ranks);
  }
  return unit;
}

void PartitionedValues::allocate_buffer(const Memory& memory, Buffer& buffer,
                                        const std::vector<ValueRun>& runs, int64_t slice) {
  const DType dtype = buffer.layout.dtype();
  buffer.slice = memory.slices.tensor({slice}, dtype);
  for (const ValueRun& run : runs) {
    Run& taken = buffer.runs.emplace_back();
    taken.range = run.range;
    if (run.persistent) taken.persistent = memory.persistent.tensor({run.range.count}, dtype);
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
                                     const ValueLimits& limits, const OffloadChoices& offload,
                                     const HostSide& host)
    : table_(table),
      world_(world),
      ops_(ops),
      slice_ops_(offload.params ? *host.ops : ops),
      pool_(std::make_unique<UnitPool>("gathered parameters", ParamTable::Memory::kReal,
                                       table.dtype(), ops.memory())) {
  const int ranks = world.size();
  const int64_t threshold = limits.persistence_threshold;
  MemoryResource& slice_memory = offload.params ? host.copies->memory() : ops.memory();
  slices_ = std::make_unique<Arena>("parameters", slice_memory);
  persistent_ = std::make_unique<Arena>("persistent parameters", ops.memory());
  const KeptBytes kept = kept_bytes(table, ranks, threshold);
  if (kept.slices > 0) slices_->allocate(kept.slices);
  if (kept.persistent > 0) persistent_->allocate(kept.persistent);
  const int64_t longest = longest_slices(table, ranks, threshold);
  if (offload.params && longest > 0)
    uploads_.emplace(*host.copies, table.dtype(), longest, ops.memory());
  for (ParamUnit& layout : table.units()) {
    const auto number = static_cast<int>(units_.size());
    Unit& unit =
        units_.emplace_back(allocate_unit({*slices_, *persistent_}, layout, ranks, threshold));
    MemoryResource& of_unit = unit.is_persistent ? ops.memory() : slice_memory;
    for (const Buffer* buffer : {&unit.trained, &unit.frozen})
      if (const Tensor& slice = buffer->slice; slice.numel() > 0)
        of_unit.zero(slice.raw(), slice.bytes());
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
    static_cast<void>(slices_.release());
    static_cast<void>(persistent_.release());
    if (uploads_) uploads_->leak();
  }
}

PartitionedValues::Gathered PartitionedValues::gathered(int number) const {
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  const int64_t trained = trained_length(layout), frozen = frozen_length(layout, world_.size());
  const Tensor& all = units_[static_cast<size_t>(number)].whole;
  return {flat_range(all, 0, trained), flat_range(all, trained, frozen)};
}

int64_t PartitionedValues::gathered_elements(int number) const {
  const ParamUnit& layout = table_.units()[static_cast<size_t>(number)];
  return trained_length(layout) + frozen_length(layout, world_.size());
}

// A place of the pool, unless the unit has been given one.
void PartitionedValues::acquire(int number) {
  Unit& unit = units_[static_cast<size_t>(number)];
  if (unit.whole.defined()) return;
  unit.buffer = pool_->acquire(gathered_elements(number));
  unit.whole = pool_->buffer(unit.buffer, gathered_elements(number));
}

void PartitionedValues::gather_into(int number, const Tensor& place) {
  Unit& unit = units_[static_cast<size_t>(number)];
  ASSERT(!unit.whole.defined() && place.numel() == gathered_elements(number),
         "unit {} is in use, or its place has {} elements", number, place.numel());
  unit.whole = place;
  gather(number);
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
  if (unit.buffer >= 0) pool_->release(unit.buffer);
  unit.buffer = -1;
  unit.whole = Tensor();
}

// ---- gathering units

void PartitionedValues::gather(int number) {
  start_gather(number);
  finish_gather(number);
}

void PartitionedValues::start_gather(int number) {
  acquire(number);
  const auto [trained, frozen] = gathered(number);
  Unit& unit = units_[static_cast<size_t>(number)];
  SliceUploads::Slices slices{unit.trained.slice, unit.frozen.slice};
  if (uploads_) {
    expect(number);
    slices = uploads_->take(number);
  }
  start_gather(unit.trained, trained, slices.trained);
  start_gather(unit.frozen, frozen, slices.frozen);
}

// Starts to bring the unit's slices from the host. What was there before them may be on its way to
// the other ranks.
void PartitionedValues::expect(int number) {
  if (!uploads_ || uploads_->has(number)) return;
  if (uploads_->replaced() != SliceUploads::kNone)
    wait_for(units_[static_cast<size_t>(uploads_->replaced())]);
  const Unit& unit = units_[static_cast<size_t>(number)];
  uploads_->start(number, unit.trained.slice, unit.frozen.slice);
}

void PartitionedValues::drop_brought() {
  residency_->drop_prefetched();
  if (uploads_) uploads_->forget();
}

void PartitionedValues::start_gather(Buffer& buffer, const Tensor& whole, const Tensor& slice) {
  for (Run& run : buffer.runs) {
    const Tensor place = flat_range(whole, run.range);
    if (run.persistent.defined())
      ops_.copy(place, run.persistent);
    else
      run.pending = world_.start_all_gather(place, flat_range(slice, run.own), run.parts);
  }
}

void PartitionedValues::finish_gather(int number) {
  wait_for(units_[static_cast<size_t>(number)]);
  bind(number);
}

void PartitionedValues::wait_for(Unit& unit) {
  for (Buffer* buffer : {&unit.trained, &unit.frozen})
    for (Run& run : buffer->runs) world_.wait(run.pending);
}

// ---- changed values

void PartitionedValues::store(int number, const Tensor& trained, const Tensor& frozen) {
  Unit& unit = units_[static_cast<size_t>(number)];
  ASSERT(!unit.whole.defined(), "a unit is filled while it is in use");
  if (unit.is_persistent) {
    store_values(ops_, unit.trained.persistent, trained);
    store_values(ops_, unit.frozen.slice, frozen);
  } else {
    store(unit.trained, trained);
    store(unit.frozen, frozen);
  }
}

void PartitionedValues::store(const Buffer& buffer, const Tensor& whole) const {
  store_values(slice_ops_, buffer.slice,
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
    Tensor own = flat_range(buffer.slice, run.own);
    if (uploads_) own = uploads_->bring(own);
    run.pending = world_.start_all_gather(run.persistent, own, run.parts);
    world_.wait(run.pending);
  }
}

}  // namespace facet
