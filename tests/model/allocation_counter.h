// Counts what the test program takes from the heap: operator new is replaced in the .cpp.
#pragma once

#include <cstdint>

namespace facet::allocation_counter {

int64_t count();  // calls of operator new since the program began

}  // namespace facet::allocation_counter
