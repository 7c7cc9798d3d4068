#include "comm/cuda/lone_transport.h"

#include "base/check.h"

namespace facet {

DeviceTransport::Ticket LoneTransport::copy(const Tensor& to, const Tensor& from,
                                            const RankParts& parts) const {
  ASSERT(parts.counts.size() == 1, "{} ranks exchange without a transport between them",
         parts.counts.size());
  char* const place = to.data<char>() + parts.offsets[0] * size_of(to.dtype());
  const auto bytes = static_cast<size_t>(parts.counts[0] * size_of(to.dtype()));
  if (place != from.raw() && bytes > 0)
    check_cuda(cudaMemcpyAsync(place, from.raw(), bytes, cudaMemcpyDeviceToDevice, compute_),
               "cannot copy a rank's own part");
  return 0;
}

DeviceTransport::Ticket LoneTransport::start_all_gather(Tensor whole, Tensor part,
                                                        const RankParts& parts) {
  return copy(whole, part, parts);
}

DeviceTransport::Ticket LoneTransport::start_exchange(Tensor received, Tensor sent,
                                                      const RankParts& parts) {
  const Tensor own = sent.range(parts.offsets[0], parts.counts[0]);
  return copy(received, own, parts);
}

DeviceTransport::Ticket LoneTransport::start_broadcast(Tensor, int) { return 0; }

void LoneTransport::wait(Ticket, BegunCollective) {}

}  // namespace facet
