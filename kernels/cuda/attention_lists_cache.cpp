#include "kernels/cuda/attention_lists_cache.h"

#include <algorithm>

#include "base/check.h"

namespace facet::cuda {

template <typename Work>
ListsCache<Work>::ListsCache(UploadStream& uploads)
    : uploads_(uploads),
      places_{Place(uploads.stream()), Place(uploads.stream()), Place(uploads.stream()),
              Place(uploads.stream()), Place(uploads.stream())} {}

template <typename Work>
void ListsCache<Work>::upload(Place& place) {
  const auto count = static_cast<int64_t>(place.work.words().size());
  // A rank may have no rows, and then no words.
  Workspace& memory = place.words[static_cast<size_t>(uploads_.next(place.turns))];
  int32_t* words = memory.take<int32_t>(std::max<int64_t>(1, count));
  uploads_.copy(words, place.work.words().data(), count * static_cast<int64_t>(sizeof(int32_t)));
  place.device_words = words;
  ++lists_uploaded_;
}

// The place of this plan, or the least recently used one.
template <typename Work>
typename ListsCache<Work>::Place& ListsCache<Work>::place_of(const AttentionPlan& plan) {
  ASSERT(plan.version != 0, "an attention plan without a version");
  auto place = std::find_if(places_.begin(), places_.end(),
                            [&](const Place& place) { return place.plan == &plan; });
  if (place == places_.end())
    place = std::min_element(places_.begin(), places_.end(), [](const Place& a, const Place& b) {
      return a.last_use < b.last_use;
    });
  place->last_use = ++uses_;
  return *place;
}

template class ListsCache<AttentionWork>;
template class ListsCache<DecodeWork>;

}  // namespace facet::cuda
