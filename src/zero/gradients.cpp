#include "zero/gradients.h"

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {

int64_t Gradients::slice_bytes(const ParamTable& table, int ranks) {
  Arena plan("gradient sums");
  for (const ParamUnit& unit : table.units()) plan.tensor({trained_length(unit) / ranks});
  return plan.peak();
}

Gradients::Gradients(ParamTable& table, Communicator& world, Backend& ops, GradientHome home,
                     ReduceWhen when)
    : table_(table),
      world_(world),
      ops_(ops),
      home_(home),
      when_(when),
      pool_("gradients of a unit", ParamTable::Memory::kReal),
      buffers_(table.units().size(), -1) {
  ASSERT(home != GradientHome::kPartitioned || when == ReduceWhen::kEveryMicroBatch,
         "a gradient that nobody keeps whole is summed at once");
  for (const ParamUnit& unit : table.units()) layouts_.push_back(unit.trained_grads);
  if (when == ReduceWhen::kOncePerStep) return;
  memory_ = std::make_unique<Arena>("gradient sums", slice_bytes(table, world.size()));
  for (const ParamUnit& unit : table.units())
    sums_.push_back(memory_->tensor({trained_length(unit) / world.size()}));
}

void Gradients::clear() {
  if (home_ != GradientHome::kPartitioned) table_.zero_gradients();
  for (const Tensor& sum : sums_)
    if (sum.numel() > 0) ops_.fill(sum, 0);
}

void Gradients::backward_begins(int unit) {
  const int64_t length = trained_length(table_.units()[static_cast<size_t>(unit)]);
  int& buffer = buffers_[static_cast<size_t>(unit)];
  if (home_ != GradientHome::kPartitioned || length == 0 || buffer >= 0) return;
  buffer = pool_.acquire(length);
  table_.bind_gradients(unit, pool_.buffer(buffer, length));
  ops_.fill(whole(unit), 0);
}

// The sum replaces this rank's part of the whole gradient, which has then done its service.
void Gradients::micro_batch_ready(int unit) {
  const int64_t length = trained_length(table_.units()[static_cast<size_t>(unit)]);
  if (when_ == ReduceWhen::kOncePerStep || length == 0) return;
  backward_begins(unit);  // a unit that this micro-batch did not use contributes zeros
  const Tensor sum = flat_range(whole(unit), slice_of_rank(length, world_.rank(), world_.size()));
  world_.reduce_scatter_sum(sum, whole(unit));
  ops_.add_accumulate(sums_[static_cast<size_t>(unit)], sum);
  if (home_ != GradientHome::kPartitioned) return ops_.fill(whole(unit), 0);
  int& buffer = buffers_[static_cast<size_t>(unit)];
  table_.bind_gradients(unit, layouts_[static_cast<size_t>(unit)]);
  pool_.release(buffer);
  buffer = -1;
}

void Gradients::finish() {
  for (size_t u = 0; u < table_.units().size(); ++u) {
    const Tensor all = table_.units()[u].trained_grads;
    if (trained_length(table_.units()[u]) == 0) continue;
    const bool summed = when_ == ReduceWhen::kEveryMicroBatch;
    if (home_ == GradientHome::kWhole && summed)
      world_.all_gather(all, sums_[u]);
    else if (home_ == GradientHome::kWhole)
      world_.all_reduce_sum(all);
    else if (!summed)
      world_.reduce_scatter_sum(slice(static_cast<int>(u)), all);
  }
}

Tensor Gradients::slice(int unit) const {
  if (when_ == ReduceWhen::kEveryMicroBatch) return sums_[static_cast<size_t>(unit)];
  const Tensor all = whole(unit);
  return flat_range(all, slice_of_rank(all.numel(), world_.rank(), world_.size()));
}

}  // namespace facet
