// cp.async: copies to shared memory that run beside the thread. They may arrive at any time until
// the thread has waited for their group: here the destination becomes NaN at once, and the data
// arrive at the wait, read from what the source then holds.
#pragma once

#include <cstddef>

#include "emulated/device/site.h"

namespace facet::emulated {

struct Fiber;

void start_async_copy(void* to, const void* from, size_t bytes, size_t valid_bytes, Site where);
void commit_async_copies();
// At most `pending` groups, the youngest, may still be under way afterwards.
void wait_async_copies(int pending);

// A thread that ends must have waited for all it started.
void check_copies_awaited(const Fiber& fiber);

}  // namespace facet::emulated
