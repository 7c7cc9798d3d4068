#include "zero/offloaded_step.h"

#include <algorithm>

#include "base/progress.h"
#include "zero/unit_slices.h"

namespace facet {

int64_t OffloadedStep::longest(const ParamTable& table, int ranks, int64_t zero_stage) {
  int64_t elements = 0;
  for (const ParamUnit& unit : table.units())
    elements = std::max(elements, trained_length(unit) / (zero_stage == 0 ? 1 : ranks));
  return elements;
}

std::array<OffloadedStep::Slot, 2> OffloadedStep::allocate(Arena& memory, DType values,
                                                           int64_t chunk) {
  std::array<Slot, 2> slots;
  for (Slot& slot : slots) {
    slot.grad = memory.tensor({chunk});
    if (values != DType::kF32) slot.value = memory.tensor({chunk}, values);
  }
  return slots;
}

int64_t OffloadedStep::staging_bytes(DType values, int64_t longest, int64_t chunk_elements) {
  Arena plan("chunks of the optimizer state");
  allocate(plan, values, std::min(longest, chunk_elements));
  return plan.peak();
}

OffloadedStep::OffloadedStep(const HostSide& host, DType values, int64_t longest,
                             int64_t chunk_elements)
    : ops_(*host.ops),
      copies_(*host.copies),
      chunk_elements_(std::min(longest, chunk_elements)),
      memory_(std::make_unique<Arena>("chunks of the optimizer state",
                                      staging_bytes(values, longest, chunk_elements),
                                      copies_.memory())),
      slots_(allocate(*memory_, values, chunk_elements_)) {}

void OffloadedStep::run(const Vectors& whole, const AdamWStep& step) {
  const int64_t n = whole.grad.numel();
  for (int64_t begin = 0; begin < n; begin += chunk_elements_) {
    const int64_t count = std::min(chunk_elements_, n - begin);
    const auto part = [&](const Tensor& x) { return flat_range(x, begin, count); };
    Slot& slot = slots_[next_];
    next_ = 1 - next_;
    slot.came = copies_.start_to_host(flat_range(slot.grad, 0, count), part(whole.grad));
    const Chunk chunk{{part(whole.master), part(whole.exp_avg), part(whole.exp_avg_sq),
                       part(whole.value), part(whole.grad), whole.value_on_host},
                      step,
                      &slot};
    if (coming_) compute(*coming_);
    coming_ = chunk;
  }
}

// The values that the slot held have gone before others take their place. Masters that were sent in
// the step before have gone too: the device has waited for them, and these gradients for the
// device.
void OffloadedStep::compute(const Chunk& chunk) {
  note_progress();
  const Vectors& at = chunk.vectors;
  Slot& slot = *chunk.slot;
  const int64_t count = at.grad.numel();
  const bool rounds = slot.value.defined();
  const Tensor rounded = rounds ? flat_range(slot.value, 0, count) : Tensor();
  copies_.wait(slot.came);
  if (at.value_on_host) {
    ops_.adamw_step(at.master, at.exp_avg, at.exp_avg_sq, rounds ? at.value : Tensor(),
                    flat_range(slot.grad, 0, count), chunk.step);
    if (!rounds) ops_.copy(at.value, at.master);
    return;
  }
  copies_.wait(slot.went);
  ops_.adamw_step(at.master, at.exp_avg, at.exp_avg_sq, rounded, flat_range(slot.grad, 0, count),
                  chunk.step);
  last_ = slot.went = copies_.start_to_device(at.value, rounds ? rounded : at.master);
}

void OffloadedStep::finish() {
  if (coming_) compute(*coming_);
  coming_.reset();
  copies_.hold_compute(last_);
}

}  // namespace facet
