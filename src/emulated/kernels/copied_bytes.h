// What cp.async has fetched, for tests of how often a kernel reads its operands.
#pragma once

#include <cstdint>

namespace facet::emulated {

// Bytes that the process has copied from global memory by cp.async, without those filled with
// zeros.
int64_t async_copied_bytes();

}  // namespace facet::emulated
