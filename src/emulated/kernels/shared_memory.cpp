#include "emulated/kernels/shared_memory.h"

#include <sys/mman.h>

#include <vector>

#include "base/check.h"
#include "emulated/device/observer.h"
#include "emulated/device/poison.h"
#include "emulated/device/violation.h"
#include "emulated/kernels/executor.h"

namespace facet::emulated {
namespace {

constexpr size_t kRangeBytes = 4 << 20;
constexpr size_t kMaxStaticBytes = 48 * 1024;  // CUDA's limit on declared shared memory

struct SharedArray {
  char* data = nullptr;
  size_t bytes = 0;
  Site where;
};

struct SharedMemory {
  char* base;
  size_t used = 0;
  size_t static_bytes = 0;
  std::vector<SharedArray> arrays;   // of the block, in order of first use
  std::vector<SharedArray> dynamic;  // by index

  SharedMemory() : base(reserve_addresses(kRangeBytes)) {
    const int failed = mprotect(base, kRangeBytes, PROT_READ | PROT_WRITE);
    ASSERT(failed == 0, "mprotect of shared memory");
    poison(base, kRangeBytes);
  }

  SharedArray make(size_t bytes, size_t alignment, Site where) {
    // At an odd multiple of the alignment: a higher alignment would hide that one is needed.
    size_t offset = (used + kGuardBytes + alignment - 1) / alignment * alignment;
    if (offset / alignment % 2 == 0) offset += alignment;
    const SharedArray array{base + offset, bytes, where};
    ASSERT(offset + bytes + kGuardBytes <= kRangeBytes, "{} bytes of shared memory", bytes);
    unpoison(base + used, offset + bytes + kGuardBytes - used);
    fill_guard(array.data - kGuardBytes, kGuardBytes);
    fill_undefined(array.data, bytes);
    fill_guard(array.data + bytes, kGuardBytes);
    poison(array.data - kGuardBytes, kGuardBytes);
    poison(array.data + bytes, kGuardBytes);
    if (observer()) {
      observer()->guard(array.data - kGuardBytes, kGuardBytes);
      observer()->fresh(array.data, bytes);
      observer()->guard(array.data + bytes, kGuardBytes);
    }
    used = offset + bytes + kGuardBytes;
    arrays.push_back(array);
    return array;
  }
};

SharedMemory& memory() {
  static SharedMemory* const the_memory = new SharedMemory;
  return *the_memory;
}

}  // namespace

void* static_shared_array(SharedSlot& slot, size_t bytes, size_t alignment, Site where) {
  const uint64_t block = Executor::instance().block_serial();
  if (slot.block_serial == block) return slot.data;
  SharedMemory& m = memory();
  m.static_bytes += bytes;
  if (m.static_bytes > kMaxStaticBytes)
    violation(where, "{} bytes of declared shared memory, {} are the most", m.static_bytes,
              kMaxStaticBytes);
  slot = {m.make(bytes, alignment, where).data, block};
  return slot.data;
}

void* dynamic_shared_array(size_t index, size_t offset, size_t bytes, Site where,
                           size_t alignment) {
  SharedMemory& m = memory();
  const size_t launched = Executor::instance().shared_bytes();
  if (offset + bytes > launched)
    violation(where, "bytes [{}, {}) of dynamic shared memory, launched with {}", offset,
              offset + bytes, launched);
  if (index >= m.dynamic.size()) m.dynamic.resize(index + 1);
  SharedArray& array = m.dynamic[index];
  if (!array.data) array = m.make(bytes, alignment, where);
  if (array.bytes != bytes)
    violation(where, "dynamic shared array {} has {} bytes here and {} at {}", index, bytes,
              array.bytes, text_of(array.where));
  return array.data;
}

AddressRange shared_range() { return {memory().base, kRangeBytes}; }

SharedMemoryOfBlock::SharedMemoryOfBlock() = default;

SharedMemoryOfBlock::~SharedMemoryOfBlock() {
  SharedMemory& m = memory();
  if (observer() && m.used > 0) observer()->guard(m.base, m.used);
  poison(m.base, m.used);
  m.used = m.static_bytes = 0;
  m.arrays.clear();
  m.dynamic.clear();
}

void SharedMemoryOfBlock::check_guards() const {
  for (const SharedArray& a : memory().arrays) {
    unpoison(a.data - kGuardBytes, a.bytes + 2 * kGuardBytes);
    const bool before = guard_intact(a.data - kGuardBytes, kGuardBytes);
    const bool after = guard_intact(a.data + a.bytes, kGuardBytes);
    if (!before || !after)
      throw_violation(fmt::format("wrote outside shared memory: {} the {} bytes declared at {}",
                                  before ? "after" : "before", a.bytes, text_of(a.where)));
  }
}

}  // namespace facet::emulated
