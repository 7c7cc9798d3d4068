// The work lists of attention in device memory: built and uploaded when a plan is first used, not
// for every layer. A list is found by the plan's version; places are reused, and each has two
// pieces of memory, so that the next batch's lists arrive while this batch's are in use.
#pragma once

#include <array>
#include <cstdint>

#include "device/cuda/upload_stream.h"
#include "device/cuda/workspace.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/decode_work.h"

namespace facet::cuda {

// Work: AttentionWork or DecodeWork.
template <typename Work>
class ListsCache {
 public:
  explicit ListsCache(UploadStream& uploads);
  // The lists are freed behind the work that reads them.
  ~ListsCache() { uploads_.follow_compute(); }

  // Valid for work enqueued on the compute stream before the next call. `device`: what else
  // Work::make() is given, the same in every call for a plan.
  template <typename... Device>
  auto lists_of(const AttentionPlan& plan, Device... device) {
    Place& place = place_of(plan);
    if (place.version != plan.version) {
      place.plan = &plan;
      place.version = plan.version;
      place.work.make(plan, device...);
      upload(place);
    }
    return place.work.lists(place.device_words);
  }

  // Lists are made anew from here on.
  void forget() {
    for (Place& place : places_) place.version = 0;
  }

  int64_t uploads() const { return lists_uploaded_; }

 private:
  struct Place {
    explicit Place(const Stream& copies) : words{Workspace(copies), Workspace(copies)} {}
    const AttentionPlan* plan = nullptr;
    uint64_t version = 0;
    int64_t last_use = 0;
    Work work;
    UploadTurns turns;
    std::array<Workspace, UploadTurns::kPieces> words;
    const int32_t* device_words = nullptr;
  };
  Place& place_of(const AttentionPlan& plan);
  void upload(Place& place);

  UploadStream& uploads_;
  // A model has up to five plans: for the vision encoder, the projection and the decoder, whose
  // layers may be with and without a window and whose last has some of the queries.
  std::array<Place, 5> places_;
  int64_t uses_ = 0, lists_uploaded_ = 0;
};

using AttentionListsCache = ListsCache<AttentionWork>;
using DecodeListsCache = ListsCache<DecodeWork>;

}  // namespace facet::cuda
