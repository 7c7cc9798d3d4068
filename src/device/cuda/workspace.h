// Device memory for one purpose on one stream: grows to the largest size requested and is then
// kept, so that a training step allocates nothing once it has seen its largest shapes.
#pragma once

#include <cstdint>

#include "device/cuda/stream.h"

namespace facet {

class Workspace {
 public:
  // Used by work on `stream` only, which must outlive it.
  explicit Workspace(const Stream& stream) : stream_(stream) {}
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
  void* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace facet
