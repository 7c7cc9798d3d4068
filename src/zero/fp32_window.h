// Shows one unit of a table at a time in fp32 and in host memory, for those who fill or read values
// that are kept in another type, in slices or on a device.
#pragma once

#include <cstdint>
#include <optional>

#include "device/arena.h"
#include "nn/param_table.h"

namespace facet {

class Fp32Window {
 public:
  Fp32Window(ParamTable& table, int ranks) : table_(table), ranks_(ranks) {}

  // The unit's tensors point into the window from here on, content undefined, until they are where
  // they were before.
  void open(int unit);
  void close();
  // Gives the memory back.
  void free() { memory_.reset(); }

  // Of the open unit, with the padding that slices have.
  Tensor trained() const { return trained_; }
  Tensor frozen() const { return frozen_; }
  // Where its tensors pointed before.
  Tensor trained_behind() const { return trained_behind_; }
  Tensor frozen_behind() const { return frozen_behind_; }

  // Of the largest unit.
  static int64_t bytes(const ParamTable& table, int ranks);

 private:
  ParamTable& table_;
  int ranks_;
  int unit_ = kNoUnit;
  std::optional<Arena> memory_;
  Tensor trained_, frozen_, trained_behind_, frozen_behind_;
};

}  // namespace facet
