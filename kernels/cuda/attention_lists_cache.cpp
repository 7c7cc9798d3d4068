#include "kernels/cuda/attention_lists_cache.h"

#include <algorithm>

#include "base/check.h"

namespace facet::cuda {

AttentionListsCache::AttentionListsCache(UploadStream& uploads)
    : uploads_(uploads),
      places_{Place(uploads.stream()), Place(uploads.stream()), Place(uploads.stream()),
              Place(uploads.stream()), Place(uploads.stream())} {}

// The lists are freed behind the work that reads them.
AttentionListsCache::~AttentionListsCache() { uploads_.follow_compute(); }

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
    Workspace& memory = place.words[static_cast<size_t>(uploads_.next(place.turns))];
    int32_t* words = memory.take<int32_t>(std::max<int64_t>(1, count));
    uploads_.copy(words, place.work.words().data(), count * static_cast<int64_t>(sizeof(int32_t)));
    place.device_words = words;
    ++lists_uploaded_;
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
