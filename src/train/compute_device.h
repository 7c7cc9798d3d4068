// What a rank computes with: the CPU's operators, which work in fp32 and are wrapped in HalfStorage
// where parameters and activations have 16 bits, or a GPU's, which take every type themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "ops/half_storage.h"
#include "options/options.h"

namespace facet {

class ComputeDevice {
 public:
  enum class Takes : uint8_t { kFp32, kEveryType };
  ComputeDevice(std::shared_ptr<Backend> backend, Takes takes)
      : backend_(std::move(backend)), takes_(takes) {}

  // Scratch of HalfStorage, as measured; 0: the layers compute in fp32.
  void allocate_panels(int64_t bytes) {
    if (bytes > 0 && takes_ == Takes::kFp32)
      half_ = std::make_unique<HalfStorage>(*backend_, bytes);
  }

  Backend& layers() {
    if (half_) return *half_;
    return *backend_;
  }
  // For the optimizer and the master weights, which are always fp32.
  Backend& plain() { return *backend_; }

  // Where parameters, activations and the optimizer's state are.
  MemoryResource& memory() { return backend_->memory(); }

 private:
  std::shared_ptr<Backend> backend_;
  Takes takes_;
  std::unique_ptr<HalfStorage> half_;
};

// Opens the device that --device names and logs it. With a GPU the communicator can send tensors
// from one to another for as long as the device lives. Collective; throws CollectiveError where
// there is no such device.
ComputeDevice open_compute_device(const Options& options, Communicator& world,
                                  const std::string& host);

// Lets another communicator, of some of those ranks, send tensors of the device, for no longer than
// the device lives. Returns by what: "mpi", "nccl", "mpi-staged". Collective over `part`.
std::string connect(const Options& options, Communicator& part, ComputeDevice& device);

}  // namespace facet
