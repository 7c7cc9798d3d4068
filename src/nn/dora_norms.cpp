#include "nn/dora_norms.h"

#include <utility>

namespace facet {

DoraNorms::DoraNorms(Arena& arena, const ParamTable& table) {
  int64_t outputs = 0;
  for (const Param& param : table.params()) {
    if (param.rows_of == nullptr) continue;
    places_[&param].begin = outputs;
    outputs += param.numel();
  }
  norms_ = arena.tensor({outputs});
}

Tensor DoraNorms::from(const Param& magnitude, int64_t outputs) const {
  return norms_.range(places_.at(&magnitude).begin, outputs);
}

bool DoraNorms::take(const Param& magnitude) {
  return !std::exchange(places_.at(&magnitude).is_taken, true);
}

}  // namespace facet
