// Copies between a device's memory and page-locked host memory, beside the compute stream: one
// stream each way, so that both ways and the computation go on at the same time.
//
// A copy starts when all is done that the compute stream was given before it. Neither side may be
// touched until somebody has waited: the host by wait(), for memory of the host; the compute stream
// by hold_compute(), for what it is given from there on.
#pragma once

#include <cstdint>

#include "device/memory_resource.h"
#include "device/tensor.h"

namespace facet {

class HostCopies {
 public:
  enum class Way : uint8_t { kToHost, kToDevice };
  // The copies of a way are done in the order of their numbers.
  struct Ticket {
    Way way = Way::kToHost;
    int64_t number = 0;  // from 1; 0: no copy, and nothing to wait for
  };

  virtual ~HostCopies() = default;

  // Page-locked host memory. Its pages are taken when it is allocated.
  virtual MemoryResource& memory() = 0;

  // Dense tensors of as many bytes, `host` in memory of the above.
  [[nodiscard]] virtual Ticket start_to_host(const Tensor& host, const Tensor& device) = 0;
  [[nodiscard]] virtual Ticket start_to_device(const Tensor& device, const Tensor& host) = 0;
  virtual void wait(const Ticket& ticket) = 0;
  virtual void hold_compute(const Ticket& ticket) = 0;
};

}  // namespace facet
