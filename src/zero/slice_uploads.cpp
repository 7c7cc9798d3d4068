#include "zero/slice_uploads.h"

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {

std::array<SliceUploads::Slot, 2> SliceUploads::allocate(Arena& memory, DType dtype,
                                                         int64_t longest) {
  std::array<Slot, 2> slots;
  for (Slot& slot : slots) slot.memory = memory.tensor({longest}, dtype);
  return slots;
}

int64_t SliceUploads::bytes(DType dtype, int64_t longest) {
  Arena plan("slices from the host");
  allocate(plan, dtype, longest);
  return plan.peak();
}

SliceUploads::SliceUploads(HostCopies& copies, DType dtype, int64_t longest, MemoryResource& device)
    : copies_(copies),
      memory_(std::make_unique<Arena>("slices from the host", bytes(dtype, longest), device)),
      slots_(allocate(*memory_, dtype, longest)) {}

bool SliceUploads::has(int unit) const { return slots_[0].unit == unit || slots_[1].unit == unit; }

Tensor SliceUploads::start_at(Slot& slot, int64_t begin, const Tensor& slice) {
  const Tensor place = flat_range(slot.memory, begin, slice.numel());
  if (slice.numel() > 0) slot.came = copies_.start_to_device(place, slice);
  return place;
}

void SliceUploads::start(int unit, const Tensor& trained, const Tensor& frozen) {
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  slot.unit = unit;
  slot.slices.trained = start_at(slot, 0, trained);
  slot.slices.frozen = start_at(slot, trained.numel(), frozen);
}

SliceUploads::Slices SliceUploads::take(int unit) {
  ASSERT(has(unit), "the slices of unit {} are not on the device", unit);
  const Slot& slot = slots_[slots_[0].unit == unit ? 0 : 1];
  copies_.hold_compute(slot.came);
  return slot.slices;
}

Tensor SliceUploads::bring(const Tensor& slice) {
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  slot.unit = kNone;
  const Tensor brought = start_at(slot, 0, slice);
  copies_.hold_compute(slot.came);
  return brought;
}

void SliceUploads::forget() {
  for (Slot& slot : slots_) {
    copies_.wait(slot.came);
    slot.unit = kNone;
  }
}

}  // namespace facet
