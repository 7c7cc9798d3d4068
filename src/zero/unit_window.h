// Whole units for passes outside training, where parameters are partitioned: a rank lends memory,
// into which a group of units is gathered when the first of them is used, in the place of the group
// before it. With one group of all units everything is gathered once.
//
// Nothing here touches the pool and the order of uses that training works with
// (zero/residency.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/arena.h"
#include "nn/param_table.h"
#include "zero/values.h"

namespace facet {

// Units that are gathered together.
using UnitGroups = std::vector<std::vector<int>>;

class UnitWindow {
 public:
  // `elements`: of each unit gathered, 0 where there is nothing to gather; those units may be in a
  // group or not. Takes the memory of the largest group from the arena, where it must stay as long
  // as the window.
  UnitWindow(Values& values, const UnitGroups& groups, const std::vector<int64_t>& elements,
             Arena& arena, DType dtype);
  ~UnitWindow();
  UnitWindow(const UnitWindow&) = delete;
  UnitWindow& operator=(const UnitWindow&) = delete;

  // Collective if anything of the unit's group is to be gathered: all ranks use units in the same
  // order. The unit is whole until one of another group is used.
  void use(int unit);

  // The memory that a window takes from an arena; to measure.
  static Tensor take_memory(const UnitGroups& groups, const std::vector<int64_t>& elements,
                            Arena& arena, DType dtype);

 private:
  static constexpr int kNoGroup = -1;

  void open(int group);
  void close();

  Values& values_;
  const UnitGroups groups_;  // of units that are gathered
  const std::vector<int64_t> elements_;
  const Tensor memory_;        // of the largest group
  std::vector<int> group_of_;  // per unit
  int open_ = kNoGroup;
};

// The units of a pass, in the order of their use, `size` to a group (0: all of them in one), those
// before and from `cut` apart.
UnitGroups grouped_units(std::span<const int> order, size_t cut, int64_t size);

}  // namespace facet
