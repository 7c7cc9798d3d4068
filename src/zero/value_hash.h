// A hash of parameter values that can be computed in parts: the sum over all elements of a number
// mixed from name, shape, index and bits. The sum does not depend on how the elements are
// partitioned.
#pragma once

#include <cstdint>

#include "nn/param_table.h"

namespace facet {

// Elements [begin, begin+count) of the parameter; `values` points to the first of them.
uint64_t value_hash(const Param& param, int64_t begin, const float* values, int64_t count);

}  // namespace facet
