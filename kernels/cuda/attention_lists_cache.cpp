#include "kernels/cuda/attention_lists_cache.h"

#include <algorithm>

#include "base/check.h"

namespace facet::cuda {

AttentionListsCache::AttentionListsCache(const Stream& stream, PinnedRing& ring)
    : ring_(ring), places_{Place(stream), Place(stream), Place(stream), Place(stream)} {}

AttentionLists AttentionListsCache::lists_of(const AttentionPlan& plan) {
  ASSERT(plan.version != 0, "an attention plan without a version");
  Place& place = place_of(plan);
  place.last_use = ++uses_;
  if (place.version != plan.version) {
    place.plan = &plan;
    place.version = plan.version;
    place.work.make(plan);
    const auto count = static_cast<int64_t>(place.work.words().size());
    // A rank may have no rows, and then no words.
    int32_t* words = place.words.take<int32_t>(std::max<int64_t>(1, count));
    ring_.copy(words, place.work.words().data(), count * static_cast<int64_t>(sizeof(int32_t)));
    place.device_words = words;
    ++uploads_;
  }
  return place.work.lists(place.device_words);
}

// The place of this plan, or the least recently used one.
AttentionListsCache::Place& AttentionListsCache::place_of(const AttentionPlan& plan) {
  for (Place& place : places_)
    if (place.plan == &plan) return place;
  return *std::min_element(places_.begin(), places_.end(),
                           [](const Place& a, const Place& b) { return a.last_use < b.last_use; });
}

}  // namespace facet::cuda
