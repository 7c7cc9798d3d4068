// A hash of parameters' values that can be put together from pieces: the sum over all elements of a
// number mixed from name, shape, place and bits. However the elements are shared out, the sum is
// the same.
#pragma once

#include <cstdint>

#include "nn/param_table.h"

namespace facet {

// Of elements [begin, begin+count) of the parameter; values: of these.
uint64_t value_hash(const Param& param, int64_t begin, const float* values, int64_t count);

}  // namespace facet
