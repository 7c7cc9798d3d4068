// HostCopies of a "device" that is the host: every copy is made only when somebody waits for it, as
// late as a device may.
#pragma once

#include <array>
#include <cstring>
#include <deque>

#include "device/host_copies.h"

namespace facet {

class LateCopies final : public HostCopies {
 public:
  MemoryResource& memory() override { return host_memory(); }
  Ticket start_to_host(const Tensor& host, const Tensor& device) override {
    return start(Way::kToHost, host, device);
  }
  Ticket start_to_device(const Tensor& device, const Tensor& host) override {
    return start(Way::kToDevice, device, host);
  }
  void wait(const Ticket& ticket) override {
    Lane& lane = lanes_[static_cast<size_t>(ticket.way)];
    for (; lane.done < ticket.number; ++lane.done) {
      const Copy& copy = lane.queue.front();
      std::memcpy(copy.to.raw(), copy.from.raw(), static_cast<size_t>(copy.from.bytes()));
      lane.queue.pop_front();
    }
  }
  void hold_compute(const Ticket& ticket) override { wait(ticket); }

 private:
  struct Copy {
    Tensor to, from;
  };
  struct Lane {
    std::deque<Copy> queue;
    int64_t done = 0;
  };
  Ticket start(Way way, const Tensor& to, const Tensor& from) {
    ASSERT(to.bytes() == from.bytes(), "{} bytes into {}", from.bytes(), to.bytes());
    Lane& lane = lanes_[static_cast<size_t>(way)];
    lane.queue.push_back({to, from});
    return {way, lane.done + static_cast<int64_t>(lane.queue.size())};
  }

  std::array<Lane, 2> lanes_;
};

}  // namespace facet
