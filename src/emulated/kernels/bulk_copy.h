// TMA: copies of boxes of a matrix to shared memory. They may arrive at any time until a wait for
// the phase of their mbarrier: here the destination becomes NaN at once, and the data arrive when
// no thread of the cluster can go on without them, one copy after the other in an order that the
// order of threads decides.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"
#include "emulated/device/tensor_map.h"

namespace facet::emulated {

// fence.proxy.async: what the running thread wrote may be read by copies and by products.
void fence_async_proxy();

// `to` and `barrier` are places in the running block; of its cluster, all blocks of the mask get
// the box there, each at its own time.
void start_bulk_copy(void* to, const CUtensorMap& map, void* barrier, int col, int row,
                     unsigned blocks, Site where);
// Bytes that the process has copied from matrices by boxes, those for several blocks once.
int64_t bulk_copied_bytes();

// The place of a byte of shared memory in the 128-byte swizzle, which goes by addresses.
const char* swizzled(const char* p);
// Whether copies have written tiles there by another order than the swizzle.
bool written_unswizzled(const void* begin, size_t bytes);

// ---- for the executor
int64_t bulk_copies_under_way();
// The i-th of those that are under way.
void deliver_bulk_copy(int64_t i);
// A block of the cluster is at its end: nothing may be under way to it.
void check_bulk_copies_arrived(unsigned block);
void forget_bulk_copies();

}  // namespace facet::emulated
