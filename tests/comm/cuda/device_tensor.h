// Arrays in the emulated device's memory, for the tests of collectives, and the policies of its
// streams.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "device/cuda/stream.h"
#include "device/emulated/memory.h"
#include "device/emulated/stream.h"
#include "device/tensor.h"

namespace facet::device_test {

// Elements of any type in device memory, undefined at first.
class DeviceArray {
 public:
  DeviceArray(int64_t count, DType dtype) : count_(count), dtype_(dtype) {
    cudaMalloc(&data_, static_cast<size_t>(tensor().bytes()));
  }
  template <typename T>
  DeviceArray(const std::vector<T>& values, DType dtype, const Stream& stream)
      : DeviceArray(static_cast<int64_t>(values.size()), dtype) {
    upload(values, stream);
  }
  ~DeviceArray() {
    if (emulated::find_allocation(data_)->state == emulated::Allocation::State::kLive)
      cudaFree(data_);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  Tensor tensor() const { return Tensor(data_, {count_}, dtype_, Space::kDevice); }
  operator Tensor() const { return tensor(); }
  Tensor range(int64_t begin, int64_t count) const { return tensor().range(begin, count); }
  size_t bytes() const { return static_cast<size_t>(tensor().bytes()); }

  template <typename T>
  void upload(const std::vector<T>& values, const Stream& stream) const {
    cudaMemcpyAsync(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice,
                    stream);
    stream.synchronize();
  }
  // The content when the stream gets there.
  template <typename T>
  std::vector<T> download(const Stream& stream) const {
    std::vector<T> values(static_cast<size_t>(count_));
    cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream);
    stream.synchronize();
    return values;
  }

 private:
  int64_t count_;
  DType dtype_;
  void* data_ = nullptr;
};

// On the device, when the stream gets there: what computes in these tests.
inline void copy_on(const Stream& stream, const Tensor& to, const Tensor& from) {
  cudaMemcpyAsync(to.raw(), from.raw(), static_cast<size_t>(from.bytes()), cudaMemcpyDeviceToDevice,
                  stream);
}

// Calls body() under every policy of the streams; random orders differ between the ranks.
template <typename Body>
void for_stream_policies(int rank, const Body& body) {
  using emulated::Lateness;
  emulated::set_stream_policy({Lateness::kAtOnce, 1});
  body();
  emulated::set_stream_policy({Lateness::kAsLateAsAllowed, 1});
  body();
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    emulated::set_stream_policy({Lateness::kRandom, 100 * seed + static_cast<uint64_t>(rank)});
    body();
  }
  emulated::set_stream_policy({});
}

}  // namespace facet::device_test
