// Device memory for one purpose on one stream: grows to the largest size requested and is then
// kept, so that a training step allocates nothing once it has seen its largest shapes.
#pragma once

#include <cstdint>

#include "device/cuda/stream.h"

namespace facet {

class Workspace {
 public:
  // kDoubling: sizes that grow a little with every batch converge quickly. kExact: for large ones,
  // never more than was asked for.
  enum class Growth : uint8_t { kDoubling, kExact };
  // Used by work on `stream` only, which must outlive it.
  explicit Workspace(const Stream& stream, Growth growth = Growth::kDoubling)
      : stream_(stream), growth_(growth) {}
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // At least `count` elements, 256-byte aligned; the content is undefined in stream order.
  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(take_bytes(count * static_cast<int64_t>(sizeof(T))));
  }

 private:
  void* take_bytes(int64_t bytes);
  void free();

  const Stream& stream_;
  const Growth growth_;
  void* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace facet
