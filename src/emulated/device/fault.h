// Explains a segmentation fault before it ends the program: the host touched device memory, or a
// kernel touched freed or unallocated memory.
#pragma once

#include <cstddef>

namespace facet::emulated {

void install_fault_handler();

// A range of pages that are inaccessible on purpose, and what touching it means.
void explain_faults_in(const void* begin, size_t bytes, const char* meaning);

}  // namespace facet::emulated
