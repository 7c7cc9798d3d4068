// Who wants to know about every touch of device and shared memory: the race check, where it is
// linked in. Without it `observer()` is null and nothing is noted.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/site.h"

namespace facet::emulated {

enum class Access : uint8_t { kRead, kWrite, kAtomic };

class MemoryObserver {
 public:
  virtual ~MemoryObserver() = default;
  // Memory was handed out: content undefined, touched by nobody.
  virtual void fresh(const void* begin, size_t bytes) = 0;
  // Whole pages that nobody can touch any more: they are closed, and their addresses not used
  // again.
  virtual void closed(const void* begin, size_t bytes) = 0;
  // Nobody may touch these bytes.
  virtual void guard(const void* begin, size_t bytes) = 0;
  // The content of memory in use became undefined; who touched it is still known.
  virtual void undefined(const void* begin, size_t bytes) = 0;
  // A whole range is touched by the running operation of a stream (a copy, a fill, a free).
  virtual void operation_access(const void* begin, size_t bytes, Access access, Site where) = 0;
  // `to` becomes defined where `from` is.
  virtual void copy_defined(const void* to, const void* from, size_t bytes) = 0;
  virtual void all_defined(const void* begin, size_t bytes) = 0;
  // One access of the running thread of a kernel, or of an operation that computes: what nobody has
  // written must not be read.
  virtual void thread_access(const void* begin, size_t bytes, Access access, Site where) = 0;
};

MemoryObserver* observer();
void set_observer(MemoryObserver* observer);

}  // namespace facet::emulated
