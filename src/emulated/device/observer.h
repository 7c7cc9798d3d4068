// Observer of every access to device and shared memory: the race check, if linked in. Without it
// `observer()` is null and nothing is recorded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {

// The asynchronous ones are by Hopper's copies of boxes and products: a proxy of its own.
enum class Access : uint8_t { kRead, kWrite, kAtomic, kAsyncRead, kAsyncWrite };

inline bool is_async(Access access) {
  return access == Access::kAsyncRead || access == Access::kAsyncWrite;
}
inline bool is_read(Access access) {
  return access == Access::kRead || access == Access::kAsyncRead;
}

class MemoryObserver {
 public:
  virtual ~MemoryObserver() = default;
  // Memory was allocated: content undefined, no accesses yet.
  virtual void fresh(const void* begin, size_t bytes) = 0;
  // Whole pages that can no longer be accessed; their addresses are not reused.
  virtual void closed(const void* begin, size_t bytes) = 0;
  // These bytes must not be accessed.
  virtual void guard(const void* begin, size_t bytes) = 0;
  // The content of memory in use became undefined; its accesses are still remembered.
  virtual void undefined(const void* begin, size_t bytes) = 0;
  // The running operation of a stream (a copy, a fill, a free) accesses a whole range.
  virtual void operation_access(const void* begin, size_t bytes, Access access, Site where) = 0;
  // `to` becomes defined where `from` is.
  virtual void copy_defined(const void* to, const void* from, size_t bytes) = 0;
  virtual void all_defined(const void* begin, size_t bytes) = 0;
  // One access of the running thread of a kernel, or of an operation that computes: unwritten
  // memory must not be read.
  virtual void thread_access(const void* begin, size_t bytes, Access access, Site where) = 0;
};

MemoryObserver* observer();
void set_observer(MemoryObserver* observer);

}  // namespace facet::emulated
