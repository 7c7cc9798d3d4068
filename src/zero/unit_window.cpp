#include "zero/unit_window.h"

#include <algorithm>

#include "base/check.h"
#include "zero/unit_slices.h"

namespace facet {

namespace {

// Units begin at multiples of 64 bytes, whatever their type.
int64_t with_gap(int64_t elements) {
  constexpr int64_t kAlignment = 32;
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

UnitGroups only_gathered(UnitGroups groups, const std::vector<int64_t>& elements) {
  for (std::vector<int>& group : groups)
    std::erase_if(group, [&](int unit) { return elements[static_cast<size_t>(unit)] == 0; });
  return groups;
}

}  // namespace

Tensor UnitWindow::take_memory(const UnitGroups& groups, const std::vector<int64_t>& elements,
                               Arena& arena, DType dtype) {
  int64_t most = 0;
  for (const std::vector<int>& group : groups) {
    int64_t sum = 0;
    for (const int unit : group) sum += with_gap(elements[static_cast<size_t>(unit)]);
    most = std::max(most, sum);
  }
  return arena.tensor({most}, dtype);
}

UnitWindow::UnitWindow(Values& values, const UnitGroups& groups,
                       const std::vector<int64_t>& elements, Arena& arena, DType dtype)
    : values_(values),
      groups_(only_gathered(groups, elements)),
      elements_(elements),
      memory_(take_memory(groups, elements, arena, dtype)),
      group_of_(elements.size(), kNoGroup) {
  for (size_t g = 0; g < groups_.size(); ++g)
    for (const int unit : groups_[g]) group_of_[static_cast<size_t>(unit)] = static_cast<int>(g);
  values_.drop_prefetched();
}

UnitWindow::~UnitWindow() { close(); }

void UnitWindow::use(int unit) {
  const int group = group_of_[static_cast<size_t>(unit)];
  ASSERT(group != kNoGroup || elements_[static_cast<size_t>(unit)] == 0,
         "unit {} is gathered, but in no group", unit);
  if (group == kNoGroup || group == open_) return;
  close();
  open(group);
}

void UnitWindow::open(int group) {
  open_ = group;
  int64_t begin = 0;
  for (const int unit : groups_[static_cast<size_t>(group)]) {
    const int64_t count = elements_[static_cast<size_t>(unit)];
    values_.gather_into(unit, flat_range(memory_, begin, count));
    begin += with_gap(count);
  }
}

void UnitWindow::close() {
  if (open_ == kNoGroup) return;
  for (const int unit : groups_[static_cast<size_t>(open_)]) values_.drop(unit);
  open_ = kNoGroup;
}

UnitGroups grouped_units(std::span<const int> order, size_t cut, int64_t size) {
  if (size == 0) return {{order.begin(), order.end()}};
  UnitGroups groups;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || i == cut || static_cast<int64_t>(groups.back().size()) == size)
      groups.emplace_back();
    groups.back().push_back(order[i]);
  }
  return groups;
}

}  // namespace facet
