// The work lists of attention in device memory: built and uploaded when a plan is first used, not
// for every layer. A list is found by the plan's version; places are reused, and each has two
// pieces of memory, so that the next batch's lists arrive while this batch's are in use.
#pragma once

#include <array>
#include <cstdint>

#include "device/cuda/upload_stream.h"
#include "device/cuda/workspace.h"
#include "kernels/cuda/attention_work.h"

namespace facet::cuda {

class AttentionListsCache {
 public:
  explicit AttentionListsCache(UploadStream& uploads);
  ~AttentionListsCache();

  // Valid for work enqueued on the compute stream before the next call.
  AttentionLists lists_of(const AttentionPlan& plan);

  int64_t uploads() const { return lists_uploaded_; }

 private:
  struct Place {
    explicit Place(const Stream& copies) : words{Workspace(copies), Workspace(copies)} {}
    const AttentionPlan* plan = nullptr;
    uint64_t version = 0;
    int64_t last_use = 0;
    AttentionWork work;
    UploadTurns turns;
    std::array<Workspace, UploadTurns::kPieces> words;
    const int32_t* device_words = nullptr;
  };
  Place& place_of(const AttentionPlan& plan);

  UploadStream& uploads_;
  // A model has up to five plans: for the vision encoder, the projection and the decoder, whose
  // layers may be with and without a window and whose last has some of the queries.
  std::array<Place, 5> places_;
  int64_t uses_ = 0, lists_uploaded_ = 0;
};

}  // namespace facet::cuda
