// Arrays in device memory, for the tests of collectives, and when the work on streams runs.
#pragma once

#include <vector>

#include "comm/communicator.h"
#include "device/cuda/stream.h"
#include "device/tensor.h"
#include "tests/device/cuda/device_under_test.h"

namespace facet::device_test {

// Elements of any type in device memory, undefined at first.
class DeviceArray {
 public:
  DeviceArray(int64_t count, DType dtype) : count_(count), dtype_(dtype) {
    data_ = allocate_array(bytes());
  }
  template <typename T>
  DeviceArray(const std::vector<T>& values, DType dtype, const Stream& stream)
      : DeviceArray(static_cast<int64_t>(values.size()), dtype) {
    upload(values, stream);
  }
  ~DeviceArray() { free_array(data_, bytes()); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  Tensor tensor() const { return Tensor(data_, {count_}, dtype_, Space::kDevice); }
  operator Tensor() const { return tensor(); }
  Tensor range(int64_t begin, int64_t count) const { return tensor().range(begin, count); }
  size_t bytes() const { return static_cast<size_t>(tensor().bytes()); }

  template <typename T>
  void upload(const std::vector<T>& values, const Stream& stream) const {
    check_cuda(cudaMemcpyAsync(data_, values.data(), values.size() * sizeof(T),
                               cudaMemcpyHostToDevice, stream),
               "cannot fill an array");
    stream.synchronize();
  }
  // The content when the stream gets there.
  template <typename T>
  std::vector<T> download(const Stream& stream) const {
    std::vector<T> values(static_cast<size_t>(count_));
    check_cuda(cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream),
               "cannot fetch an array");
    stream.synchronize();
    return values;
  }

 private:
  int64_t count_;
  DType dtype_;
  void* data_ = nullptr;
};

// Parts with gaps between them, as a bucket that isn't full has.
inline RankParts parts_with_gaps(int ranks, int64_t count) {
  RankParts parts;
  for (int r = 0; r < ranks; ++r) {
    parts.counts.push_back(static_cast<int>(count));
    parts.offsets.push_back(static_cast<int>(r * (count + 3)));
  }
  return parts;
}

// On the device, when the stream gets there: what computes in these tests.
inline void copy_on(const Stream& stream, const Tensor& to, const Tensor& from) {
  check_cuda(cudaMemcpyAsync(to.raw(), from.raw(), static_cast<size_t>(from.bytes()),
                             cudaMemcpyDeviceToDevice, stream),
             "cannot copy an array");
}

// Calls body() with streams that run at once, late and at random, differently on every rank.
template <typename Body>
void for_stream_policies(int rank, const Body& body) {
  run_streams_at_once();
  body();
  run_streams_late();
  body();
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    run_streams_at_random(100 * seed + static_cast<uint64_t>(rank));
    body();
  }
  run_streams_at_once();
}

}  // namespace facet::device_test
