// What the tests of copies share.
#pragma once

#include <numeric>
#include <vector>

#include "device/cuda/pinned_ring.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {

inline std::vector<int32_t> counted_from(int32_t first, size_t n) {
  std::vector<int32_t> values(n);
  std::iota(values.begin(), values.end(), first);
  return values;
}

// The content when the stream gets there.
template <typename T>
std::vector<T> fetch(const T* from, size_t n, const Stream& stream) {
  std::vector<T> values(n);
  check_cuda(cudaMemcpyAsync(values.data(), from, n * sizeof(T), cudaMemcpyDeviceToHost, stream),
             "cannot fetch an array");
  stream.synchronize();
  return values;
}

}  // namespace facet::kernel_test
