#include "tests/model/allocation_counter.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<int64_t> calls{0};
}  // namespace

namespace facet::allocation_counter {
int64_t count() { return calls.load(); }
}  // namespace facet::allocation_counter

// Array and nothrow forms end here by default; over-aligned ones stay the library's.
void* operator new(std::size_t size) {
  ++calls;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
