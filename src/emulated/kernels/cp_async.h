// cp.async: asynchronous copies to shared memory. They may complete at any time until the thread
// has waited for their group: here the destination becomes NaN at once, and the data are copied at
// the wait, from what the source then holds. Two in flight to
// one place are an error.
#pragma once

#include <cstddef>

#include "emulated/device/site.h"

namespace facet::emulated {

struct Fiber;

void start_async_copy(void* to, const void* from, size_t bytes, size_t valid_bytes, Site where);
void commit_async_copies();
// At most the `pending` latest groups may still be in flight afterwards.
void wait_async_copies(int pending);

// A thread that ends must have waited for all it started.
void check_copies_awaited(const Fiber& fiber);

}  // namespace facet::emulated
