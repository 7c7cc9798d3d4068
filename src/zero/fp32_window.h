// Presents one unit of a table at a time in fp32 and in host memory, for code that fills or reads
// values stored in another type, partitioned or on a device.
#pragma once

#include <cstdint>
#include <optional>

#include "device/arena.h"
#include "nn/param_table.h"

namespace facet {

class Fp32Window {
 public:
  Fp32Window(ParamTable& table, int ranks) : table_(table), ranks_(ranks) {}

  // open() makes the unit's tensors point into the window (content undefined), close() makes them
  // point to where they are stored again.
  void open(int unit);
  void close();
  // Frees the memory.
  void free() { memory_.reset(); }

  // The open unit, padded to a multiple of the slices.
  Tensor trained() const { return trained_; }
  Tensor frozen() const { return frozen_; }
  // Where the open unit's values are stored.
  Tensor stored_trained() const { return stored_trained_; }
  Tensor stored_frozen() const { return stored_frozen_; }

  // What the largest unit takes.
  static int64_t bytes(const ParamTable& table, int ranks);

 private:
  ParamTable& table_;
  int ranks_;
  int unit_ = kNoUnit;
  std::optional<Arena> memory_;
  Tensor trained_, frozen_, stored_trained_, stored_frozen_;
};

}  // namespace facet
