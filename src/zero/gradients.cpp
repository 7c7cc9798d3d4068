#include "zero/gradients.h"

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {
namespace {

// Elements of one rank's slices of all units.
int64_t slice_elements(const ParamTable& table, int ranks) {
  int64_t elements = 0;
  for (const ParamUnit& unit : table.units()) elements += trained_length(unit) / ranks;
  return elements;
}

// One tensor over tensors that follow each other in an arena, and over the gaps between them.
Tensor spanning(const std::vector<Tensor>& parts) {
  char *begin = nullptr, *end = nullptr;
  for (const Tensor& part : parts) {
    if (part.numel() == 0) continue;
    if (begin == nullptr) begin = part.data<char>();
    end = part.data<char>() + part.bytes();
  }
  if (begin == nullptr) return {};
  const Tensor& any = parts.front();
  return Tensor(begin, {(end - begin) / size_of(any.dtype())}, any.dtype(), any.space());
}

}  // namespace

int64_t Gradients::bucket_bytes(const ParamTable& table, int ranks,
                                const ReductionOptions& reduction) {
  return ReductionBuckets::bytes(ranks, reduction, slice_elements(table, ranks));
}

int64_t Gradients::slice_bytes(const ParamTable& table, int ranks) {
  Arena plan("gradient sums");
  for (const ParamUnit& unit : table.units()) plan.tensor({trained_length(unit) / ranks});
  return plan.peak();
}

Gradients::Gradients(ParamTable& table, Communicator& world, Backend& ops, GradientLayout layout,
                     ReduceWhen when, const ReductionOptions& reduction)
    : table_(table),
      world_(world),
      ops_(ops),
      layout_(layout),
      when_(when),
      pool_("gradients of a unit", ParamTable::Memory::kReal, DType::kF32, ops.memory()),
      buffers_(table.units().size(), -1),
      buckets_(world, ops, reduction,
               when == ReduceWhen::kOncePerStep ? SumInto::kReplace : SumInto::kAdd,
               slice_elements(table, world.size())) {
  ASSERT(layout != GradientLayout::kPartitioned || when == ReduceWhen::kEveryMicroBatch,
         "partitioned gradients must be reduced in every micro-batch");
  for (const ParamUnit& unit : table.units()) layouts_.push_back(unit.trained_grads);
  if (layout_ != GradientLayout::kPartitioned) all_gradients_ = spanning(layouts_);
  if (when == ReduceWhen::kOncePerStep) return;
  memory_ =
      std::make_unique<Arena>("gradient sums", slice_bytes(table, world.size()), ops.memory());
  for (const ParamUnit& unit : table.units())
    sums_.push_back(memory_->tensor({trained_length(unit) / world.size()}));
  all_sums_ = spanning(sums_);
}

void Gradients::begin_step(int64_t micro_batches) {
  micro_batches_left_ = micro_batches;
  units_ready_ = 0;
  for (const Tensor& all : {all_gradients_, all_sums_})
    if (all.defined()) ops_.fill(all, 0);
}

void Gradients::backward_begins(int unit) {
  const int64_t length = trained_length(table_.units()[static_cast<size_t>(unit)]);
  int& buffer = buffers_[static_cast<size_t>(unit)];
  if (layout_ != GradientLayout::kPartitioned || length == 0 || buffer >= 0) return;
  buffer = pool_.acquire(length);
  table_.bind_gradients(unit, pool_.buffer(buffer, length));
  ops_.fill(whole(unit), 0);
}

void Gradients::micro_batch_ready(int unit) {
  ASSERT(micro_batches_left_ > 0, "gradients of unit {} after the last micro-batch of the step",
         unit);
  const bool reduced = when_ == ReduceWhen::kEveryMicroBatch || micro_batches_left_ == 1;
  if (reduced) reduce(unit);
  if (++units_ready_ < table_.units().size()) return;
  units_ready_ = 0;
  --micro_batches_left_;
  if (reduced) buckets_.flush();
}

// With one reduction per step the sum replaces this rank's slice of the full gradient. Otherwise
// the full gradient is no longer needed.
void Gradients::reduce(int unit) {
  const int64_t length = trained_length(table_.units()[static_cast<size_t>(unit)]);
  if (length == 0) return;
  backward_begins(unit);  // a unit that this micro-batch did not use contributes zeros
  buckets_.reduce(slice(unit), whole(unit));
  if (when_ == ReduceWhen::kOncePerStep) return;
  if (layout_ != GradientLayout::kPartitioned) return ops_.fill(whole(unit), 0);
  int& buffer = buffers_[static_cast<size_t>(unit)];
  table_.bind_gradients(unit, layouts_[static_cast<size_t>(unit)]);
  pool_.release(buffer);
  buffer = -1;
}

void Gradients::finish() {
  ASSERT(micro_batches_left_ == 0, "the step ends {} micro-batches early", micro_batches_left_);
  buckets_.wait();
  if (layout_ != GradientLayout::kAllReduced) return;
  for (size_t u = 0; u < table_.units().size(); ++u)
    if (trained_length(table_.units()[u]) > 0)
      world_.all_gather(table_.units()[u].trained_grads, slice(static_cast<int>(u)));
}

Tensor Gradients::slice(int unit) const {
  if (when_ == ReduceWhen::kEveryMicroBatch) return sums_[static_cast<size_t>(unit)];
  const Tensor all = whole(unit);
  return flat_range(all, slice_of_rank(all.numel(), world_.rank(), world_.size()));
}

}  // namespace facet
