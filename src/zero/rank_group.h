// The ranks of a Communicator as a group that shares weights (nn/weight_sharing.h).
#pragma once

#include "comm/communicator.h"
#include "nn/weight_sharing.h"

namespace facet {

class RankGroup final : public WeightGroup {
 public:
  explicit RankGroup(Communicator& ranks) : ranks_(ranks) {}

  void all_gather(Tensor whole, Tensor slice) override { ranks_.all_gather(whole, slice); }
  void exchange(Tensor received, Tensor sent) override;

 private:
  Communicator& ranks_;
  RankParts parts_;  // of the last exchange
};

}  // namespace facet
