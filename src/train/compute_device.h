// What a rank computes with: the CPU's operators, which work in fp32 and are wrapped in HalfStorage
// where parameters and activations have 16 bits, or a GPU's, which take every type themselves.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "comm/communicator.h"
#include "ops/half_storage.h"
#include "options/options.h"
#include "zero/offload.h"

namespace facet {

// In which of several ways a GPU computes its products (train/product_choices.h).
struct ProductAlgorithms {
  std::string kind;                      // "NVIDIA H200, cuBLASLt 130100"
  std::function<void()> time;            // each new product, from here until some are taken
  std::function<std::string()> choices;  // so far: a line each, of which those that take() can
                                         // take begin with `kind`
  std::function<int64_t(const std::string&)> take;  // returns how many of them it can
};

struct DeviceFacts {
  int threads = 1;               // that compute on the host
  std::string gpu{};             // "0 NVIDIA H200"; "" on the CPU
  double peak_flops = 0;         // operations a second that it can do at most; 0: not known
  std::function<void()> wait{};  // until all it was asked for is done; empty where each operator
                                 // returns when it is
  ProductAlgorithms products{};  // of a GPU
};

class ComputeDevice {
 public:
  enum class Takes : uint8_t { kFp32, kEveryType };
  ComputeDevice(std::shared_ptr<Backend> backend, Takes takes, DeviceFacts facts = {})
      : backend_(std::move(backend)), takes_(takes), facts_(std::move(facts)) {}

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

  // What offloads to the host: its operators, and the copies from and to the device.
  void offload_to(std::unique_ptr<Backend> host, std::unique_ptr<HostCopies> copies) {
    host_ = std::move(host);
    copies_ = std::move(copies);
  }
  HostSide host_side() const { return {host_.get(), copies_.get()}; }

  // Where parameters, activations and the optimizer's state are.
  MemoryResource& memory() { return backend_->memory(); }

  const DeviceFacts& facts() const { return facts_; }

 private:
  std::shared_ptr<Backend> backend_;
  Takes takes_;
  DeviceFacts facts_;
  std::unique_ptr<HalfStorage> half_;
  std::unique_ptr<Backend> host_;
  std::unique_ptr<HostCopies> copies_;
};

// What a command's errors say where memory is short, in place of what training's do.
void advise_on_memory(const char* advice);
constexpr const char* kAnswersTakeLess =
    "lower --max_seq_len, give --precision bf16, or share the model between ranks with "
    "--inference_tp_size";

// Opens the device that --device names and logs it. With a GPU the communicator can send tensors
// from one to another for as long as the device lives. Collective; throws CollectiveError where
// there is no such device.
ComputeDevice open_compute_device(const Options& options, Communicator& world,
                                  const std::string& host);

// Lets another communicator, of some of those ranks, send tensors of the device, for no longer than
// the device lives. Returns by what: "mpi", "nccl", "mpi-staged". Collective over `part`.
std::string connect(const Options& options, Communicator& part, ComputeDevice& device);

}  // namespace facet
