#include "zero/fp32_window.h"

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {

int64_t Fp32Window::bytes(const ParamTable& table, int ranks) {
  Arena plan("a unit in fp32");
  for (const ParamUnit& unit : table.units()) {
    plan.release(0);
    plan.tensor({trained_length(unit)});
    plan.tensor({frozen_length(unit, ranks)});
  }
  return plan.peak();
}

void Fp32Window::open(int number) {
  ASSERT(unit_ == kNoUnit, "unit {} is already open", unit_);
  if (!memory_) memory_.emplace("a unit in fp32", bytes(table_, ranks_));
  const ParamUnit& unit = table_.units()[static_cast<size_t>(number)];
  unit_ = number;
  stored_trained_ = unit.trained_values;
  stored_frozen_ = unit.frozen_values;
  memory_->release(0);
  trained_ = memory_->tensor({trained_length(unit)});
  frozen_ = memory_->tensor({frozen_length(unit, ranks_)});
  table_.bind_values(number, trained_, flat_range(frozen_, 0, stored_frozen_.numel()));
}

void Fp32Window::close() {
  table_.bind_values(unit_, stored_trained_, stored_frozen_);
  unit_ = kNoUnit;
}

}  // namespace facet
