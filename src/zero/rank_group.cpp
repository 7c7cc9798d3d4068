#include "zero/rank_group.h"

namespace facet {

void RankGroup::exchange(Tensor received, Tensor sent) {
  const auto count = static_cast<int>(sent.numel() / ranks_.size());
  parts_.counts.assign(static_cast<size_t>(ranks_.size()), count);
  parts_.offsets.clear();
  for (int r = 0; r < ranks_.size(); ++r) parts_.offsets.push_back(r * count);
  Communicator::Pending pending = ranks_.start_exchange(received, sent, parts_);
  ranks_.wait(pending);
}

}  // namespace facet
