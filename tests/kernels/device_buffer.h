// What the tests of kernels share: a stream and arrays in device memory.
#pragma once

#include <cstdint>
#include <vector>

#include "device/cuda/stream.h"
#include "tests/device/cuda/device_under_test.h"

namespace facet::kernel_test {

using device_test::every_access_is_watched;
using device_test::for_other_thread_orders;
using device_test::for_thread_orders;

class TestStream {
 public:
  TestStream() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cannot make a stream");
  }
  ~TestStream() { cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return stream_; }
  void synchronize() const {
    check_cuda(cudaStreamSynchronize(stream_), "the work of a stream failed");
  }

 private:
  cudaStream_t stream_;
};

// n elements in device memory, NaN at first (integers: all bits set).
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(int64_t n)
      : n_(static_cast<size_t>(n)), data_(static_cast<T*>(device_test::allocate_array(bytes()))) {}
  DeviceBuffer(const std::vector<T>& values, const TestStream& stream)
      : DeviceBuffer(static_cast<int64_t>(values.size())) {
    upload(values, stream);
  }
  ~DeviceBuffer() { device_test::free_array(data_, bytes()); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  T* data() const { return data_; }
  size_t bytes() const { return n_ * sizeof(T); }
  void upload(const std::vector<T>& values, const TestStream& stream) {
    check_cuda(cudaMemcpyAsync(data_, values.data(), bytes(), cudaMemcpyHostToDevice, stream),
               "cannot fill an array");
    stream.synchronize();
  }
  std::vector<T> download(const TestStream& stream) const {
    std::vector<T> values(n_);
    check_cuda(cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream),
               "cannot fetch an array");
    stream.synchronize();
    return values;
  }

 private:
  size_t n_;
  T* data_;
};

}  // namespace facet::kernel_test
