// HostCopies of a GPU.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "device/cuda/stream.h"
#include "device/host_copies.h"

namespace facet {

class PinnedMemory final : public MemoryResource {
 public:
  Space space() const override { return Space::kHost; }
  // Throws Error(kConfig) where the system locks no more pages.
  void* allocate(int64_t bytes, const std::string& purpose) override;
  // Waits for the whole device. Throws nothing.
  void free(void* data, int64_t bytes) override;
  void zero(void* data, int64_t bytes) override;
  void forget(void* data, int64_t bytes) override;
};

class CopyStreams final : public HostCopies {
 public:
  // The compute stream must outlive this.
  explicit CopyStreams(const Stream& compute) : compute_(compute) {}
  ~CopyStreams() override;

  MemoryResource& memory() override { return memory_; }
  Ticket start_to_host(const Tensor& host, const Tensor& device) override;
  Ticket start_to_device(const Tensor& device, const Tensor& host) override;
  void wait(const Ticket& ticket) override;
  void hold_compute(const Ticket& ticket) override;

 private:
  // Events are used in turn: who waits for a copy long past waits for one that came after it.
  static constexpr size_t kEvents = 16;
  struct Lane {
    Stream stream;
    std::array<Event, kEvents> done;
    int64_t started = 0;
  };
  Lane& lane(Way way) { return way == Way::kToHost ? to_host_ : to_device_; }
  const Event& done(const Ticket& ticket);
  Ticket start(Way way, const Tensor& to, const Tensor& from);

  const Stream& compute_;
  PinnedMemory memory_;
  Event computed_;
  Lane to_host_, to_device_;
};

}  // namespace facet
