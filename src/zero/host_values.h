// Conversion between fp32 values in host memory and stored values of any type in any memory. For
// set-up, saving and exporting, not for steps.
#pragma once

#include "device/tensor.h"
#include "ops/ops.h"

namespace facet {

// Vectors of equal length, which may be empty; `host` is fp32.
void store_values(Backend& ops, const Tensor& kept, const Tensor& host);  // rounds
void read_values(Backend& ops, const Tensor& host, const Tensor& kept);   // widens

}  // namespace facet
