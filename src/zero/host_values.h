// Values on their way between host memory, where they are filled and read in fp32, and where they
// are kept, in any type. For setting up, saving and exporting, not for steps.
#pragma once

#include "device/tensor.h"
#include "ops/ops.h"

namespace facet {

// Vectors of equal length; `host` is fp32. Nothing is done for empty ones.
void store_values(Backend& ops, const Tensor& kept, const Tensor& host);  // rounds
void read_values(Backend& ops, const Tensor& host, const Tensor& kept);   // widens

}  // namespace facet
