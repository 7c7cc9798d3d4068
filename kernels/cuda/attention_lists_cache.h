// The work lists of attention in device memory: made and uploaded when a plan is first used, not
// once a layer. A list is found by the plan's version; a place is kept by its address, so that the
// next batch's plan grows into the memory of this one's.
#pragma once

#include <array>
#include <cstdint>

#include "device/cuda/pinned_ring.h"
#include "device/cuda/workspace.h"
#include "kernels/cuda/attention_work.h"

namespace facet::cuda {

class AttentionListsCache {
 public:
  AttentionListsCache(const Stream& stream, PinnedRing& ring);

  // For work of the stream that is enqueued before the next call.
  AttentionLists lists_of(const AttentionPlan& plan);

  int64_t uploads() const { return uploads_; }

 private:
  struct Place {
    explicit Place(const Stream& stream) : words(stream) {}
    const AttentionPlan* plan = nullptr;
    uint64_t version = 0;
    int64_t last_use = 0;
    AttentionWork work;
    Workspace words;
    const int32_t* device_words = nullptr;
  };
  Place& place_of(const AttentionPlan& plan);

  PinnedRing& ring_;
  // A model has three plans: of its vision encoder, projection and decoder.
  std::array<Place, 4> places_;
  int64_t uses_ = 0, uploads_ = 0;
};

}  // namespace facet::cuda
