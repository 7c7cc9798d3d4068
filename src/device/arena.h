// Arena: one block of memory handed out from the bottom up and given back in reverse order. The
// sizes are found by a dry run (an arena without memory hands out addresses that must not be
// touched), then the block is allocated once and the training step allocates nothing.
//
//   Arena arena("activations");
//   ... run the step on the null backend ...
//   arena.allocate(arena.peak());
//
// On the host memory is reserved, not touched: pages that a short batch never reaches cost nothing.
// In the checked build (FACET_CHECKED) what is handed out and what is given back is filled with
// NaN.
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

  // A measuring arena of unlimited size, for memory from there.
  explicit Arena(std::string name, MemoryResource& memory = host_memory());
  // A real arena of `capacity` bytes; throws Error(kConfig) with the sizes when the memory can't be
  // had.
  Arena(std::string name, int64_t capacity, MemoryResource& memory = host_memory());
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Turns a measuring arena into a real one of `capacity` bytes; everything must have been given
  // back.
  void allocate(int64_t capacity);

  // The next piece, 64-byte aligned, content undefined. Exceeding the capacity is our bug (the plan
  // was wrong) and names the arena and the sizes.
  Tensor tensor(std::initializer_list<int64_t> shape, DType dtype = DType::kF32);

  Mark mark() const { return used_; }
  // Gives back everything handed out since the mark.
  void release(Mark mark);

  bool measuring() const { return base_ == nullptr; }
  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }  // the most bytes ever in use at once
  void reset_peak() { peak_ = used_; }
  int64_t capacity() const { return capacity_; }
  const std::string& name() const { return name_; }

  // Bytes of all real arenas of this process together, in any memory: now, and the most there ever
  // were at once.
  static int64_t held();
  static int64_t most_held();

 private:
  std::string name_;
  MemoryResource* memory_;
  char* base_ = nullptr;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

// Gives back everything handed out during its lifetime.
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
