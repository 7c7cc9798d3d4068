// The norms of DoRA's layers for a time in which no weight changes, as while a model answers: those
// of a layer are found once.
#pragma once

#include <unordered_map>

#include "device/arena.h"
#include "nn/param_table.h"

namespace facet {

class DoraNorms {
 public:
  // In the arena, and as long as its owner leaves them there: of all magnitudes of the table.
  DoraNorms(Arena& arena, const ParamTable& table);

  // (outputs) of the layers whose magnitudes follow one another in the table from this one on.
  Tensor from(const Param& magnitude, int64_t outputs) const;
  // Are those of this magnitude still to be found? Then the caller does so.
  bool take(const Param& magnitude);

 private:
  struct Place {
    int64_t begin = 0;  // in norms_
    bool is_taken = false;
  };
  std::unordered_map<const Param*, Place> places_;
  Tensor norms_;
};

}  // namespace facet
