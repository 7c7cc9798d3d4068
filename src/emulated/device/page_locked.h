// Host memory that is page-locked. For a copy from the device to other memory CUDA makes the host
// wait until it is done.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facet::emulated {

void* allocate_page_locked(size_t bytes);
void free_page_locked(void* data);
bool is_page_locked(const void* host);
size_t page_locked_bytes();  // now

// Copies from the device to memory that is not page-locked, since the program started.
void count_pageable_copy();
int64_t pageable_copies();

}  // namespace facet::emulated
