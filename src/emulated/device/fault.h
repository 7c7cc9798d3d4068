// Says why an access to memory was refused, before the program ends as it would without this: a
// host that touches device memory, a kernel that touches freed or nobody's memory.
#pragma once

#include <cstddef>

namespace facet::emulated {

void install_fault_handler();

// An address range whose pages are closed on purpose, and what touching it means.
void explain_faults_in(const void* begin, size_t bytes, const char* meaning);

}  // namespace facet::emulated
