// What the tests of kernels share: a stream, arrays in device memory, and running something in
// every order that the emulation knows.
#pragma once

#include <cstdint>
#include <vector>

#include "device/cuda_runtime.h"
#include "device/emulated/memory.h"
#include "device/emulated/stream.h"
#include "kernels/emulated/executor.h"

namespace facet::kernel_test {

class TestStream {
 public:
  TestStream() { cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void synchronize() const { cudaStreamSynchronize(stream_); }

 private:
  cudaStream_t stream_;
};

// n elements in device memory, NaN at first (integers: all bits set).
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t n) : n_(static_cast<size_t>(n)) {
    cudaMalloc(reinterpret_cast<void**>(&data_), bytes());
  }
  DeviceBuffer(const std::vector<T>& values, const TestStream& stream)
      : DeviceBuffer(static_cast<int64_t>(values.size())) {
    upload(values, stream);
  }
  ~DeviceBuffer() {
    if (emulated::find_allocation(data_)->state == emulated::Allocation::State::kLive)
      cudaFree(data_);
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() const { return data_; }
  size_t bytes() const { return n_ * sizeof(T); }
  void upload(const std::vector<T>& values, const TestStream& stream) {
    cudaMemcpyAsync(data_, values.data(), bytes(), cudaMemcpyHostToDevice, stream);
    stream.synchronize();
  }
  std::vector<T> download(const TestStream& stream) const {
    std::vector<T> values(n_);
    cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream);
    stream.synchronize();
    return values;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

// After an error the device is as new.
inline void reset_device() {
  emulated::drop_queued_operations();
  emulated::reset_device_memory();
}

// Calls body() once in every order of threads; random ones with `random_orders` seeds.
template <typename Body>
void for_thread_orders(int random_orders, const Body& body) {
  using emulated::ThreadOrder;
  emulated::set_execution_order({ThreadOrder::kForward, 1});
  body();
  emulated::set_execution_order({ThreadOrder::kReverse, 1});
  body();
  for (int seed = 1; seed <= random_orders; ++seed) {
    emulated::set_execution_order({ThreadOrder::kRandom, static_cast<uint64_t>(seed)});
    body();
  }
  emulated::set_execution_order({});
}

}  // namespace facet::kernel_test
