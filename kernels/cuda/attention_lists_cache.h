// The work lists of attention in device memory: built and uploaded when a plan is first used, not
// for every layer. A list is found by the plan's version; places are reused, so that the next
// batch's lists use the memory of this batch's.
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

  // Valid for work enqueued on the stream before the next call.
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
  // A model has up to four plans: for the vision encoder, the projection and the decoder, whose
  // layers may be with and without a window.
  std::array<Place, 4> places_;
  int64_t uses_ = 0, uploads_ = 0;
};

}  // namespace facet::cuda
