// mbarrier: barriers in shared memory that count arrivals and the bytes of asynchronous copies, in
// phases. A phase is complete when all have arrived and every byte that was announced is there; who
// waits for it has everything before those arrivals.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {

void init_mbarrier(void* barrier, unsigned arrivals, Site where);
// fence.mbarrier_init: copies may use what the running thread has initialised.
void publish_mbarriers();
// Announces the bytes first.
void arrive_at_mbarrier(void* barrier, unsigned expected_bytes, Site where);
// In another block of the cluster, at the barrier that lies there where this one does here.
void arrive_in_cluster(void* barrier, unsigned block, Site where);
// Until the phase of this parity is complete; the phase before the first one has parity 1.
void wait_for_mbarrier(void* barrier, unsigned parity, Site where);

// ---- for copies
void require_published_mbarrier(void* barrier, Site where);
// Bytes of a copy that a thread of the cluster started at `time` of its warp are there.
void complete_bytes(void* barrier, size_t bytes, unsigned thread, uint32_t time, Site where);

// ---- for the executor
void forget_mbarriers();
// What is still missing at the barrier, for messages.
struct MissingAtMbarrier {
  unsigned arrivals;
  int64_t bytes;
};
MissingAtMbarrier missing_at_mbarrier(const void* barrier);

}  // namespace facet::emulated
