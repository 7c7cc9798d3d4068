// Arena: one block of memory, allocated from the bottom up and released in reverse order. Its size
// is found by a dry run (a measuring arena hands out addresses that must not be touched); then the
// block is allocated once, and the training step allocates nothing.
//
//   Arena arena("activations");
//   ... run the step on the null backend ...
//   arena.allocate(arena.peak());
//
// Host memory is reserved, not touched: pages that a short batch never reaches cost nothing. In the
// checked build (FACET_CHECKED) memory is filled with NaNs when handed out and when released.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "device/memory_resource.h"
#include "device/tensor.h"

namespace facet {

class Arena {
 public:
  using Mark = int64_t;

  // A measuring arena of unlimited size, for memory of that resource.
  explicit Arena(std::string name, MemoryResource& memory = host_memory());
  // A real arena of `capacity` bytes; throws Error(kConfig) with the sizes if the memory cannot be
  // allocated.
  Arena(std::string name, int64_t capacity, MemoryResource& memory = host_memory());
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Turns a measuring arena into a real one of `capacity` bytes; everything must have been
  // released.
  void allocate(int64_t capacity);

  // Makes a real arena, of which everything has been released, one of another capacity: the old
  // memory is given back before the new is taken. If that fails, as allocate() does, the arena is
  // as it was.
  void resize(int64_t capacity);

  // The next piece, 64-byte aligned, content undefined. Exceeding the capacity is a bug in the dry
  // run; the error names the arena and the sizes. More than 2^62 bytes are an Error(kConfig).
  Tensor tensor(std::initializer_list<int64_t> shape, DType dtype = DType::kF32);

  Mark mark() const { return used_; }
  // Releases everything handed out since the mark.
  void release(Mark mark);

  bool measuring() const { return base_ == nullptr; }
  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }  // peak of the bytes in use
  int64_t capacity() const { return capacity_; }
  const std::string& name() const { return name_; }

  // Bytes of all real arenas of this process, in any memory: now, and the peak.
  static int64_t held();
  static int64_t most_held();

 private:
  void give_back();
  int64_t padded_bytes(std::initializer_list<int64_t> shape, DType dtype) const;

  std::string name_;
  MemoryResource* memory_;
  char* base_ = nullptr;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

// Releases everything handed out during its lifetime.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace facet
