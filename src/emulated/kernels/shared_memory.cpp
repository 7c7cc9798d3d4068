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

constexpr size_t kBlockBytes = 4 << 20;
constexpr size_t kRangeBytes = kMostClusterBlocks * kBlockBytes;
constexpr size_t kMaxStaticBytes = 48 * 1024;  // CUDA's limit on declared shared memory

Executor& executor() { return Executor::instance(); }

struct SharedArray {
  char* data = nullptr;  // in the cluster's first block
  size_t bytes = 0;
  Site where;
};

struct SharedMemory {
  char* base;
  size_t used = 0;
  size_t static_bytes = 0;
  std::vector<SharedArray> arrays;   // of a block, in order of first use
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
    ASSERT(offset + bytes + kGuardBytes <= kBlockBytes, "{} bytes of shared memory", bytes);
    for (unsigned block = 0; block < executor().blocks(); ++block) {
      char* const begin = base + block * kBlockBytes;
      unpoison(begin + used, offset + bytes + kGuardBytes - used);
      prepare(begin + offset, bytes);
    }
    used = offset + bytes + kGuardBytes;
    arrays.push_back(array);
    return array;
  }

  static void prepare(char* data, size_t bytes) {
    fill_guard(data - kGuardBytes, kGuardBytes);
    fill_undefined(data, bytes);
    fill_guard(data + bytes, kGuardBytes);
    poison(data - kGuardBytes, kGuardBytes);
    poison(data + bytes, kGuardBytes);
    if (!observer()) return;
    observer()->guard(data - kGuardBytes, kGuardBytes);
    observer()->fresh(data, bytes);
    observer()->guard(data + bytes, kGuardBytes);
  }
};

SharedMemory& memory() {
  static SharedMemory* const the_memory = new SharedMemory;
  return *the_memory;
}

}  // namespace

void* static_shared_array(SharedSlot& slot, size_t bytes, size_t alignment, Site where) {
  const uint64_t cluster = executor().cluster_serial();
  const unsigned block = executor().current().block;
  if (slot.cluster_serial == cluster) return in_block(slot.data, block);
  SharedMemory& m = memory();
  m.static_bytes += bytes;
  if (m.static_bytes > kMaxStaticBytes)
    violation(where, "{} bytes of declared shared memory, {} are the most", m.static_bytes,
              kMaxStaticBytes);
  slot = {m.make(bytes, alignment, where).data, cluster};
  return in_block(slot.data, block);
}

void* dynamic_shared_array(size_t index, size_t offset, size_t bytes, Site where,
                           size_t alignment) {
  SharedMemory& m = memory();
  const size_t launched = executor().shared_bytes();
  if (offset + bytes > launched)
    violation(where, "bytes [{}, {}) of dynamic shared memory, launched with {}", offset,
              offset + bytes, launched);
  if (index >= m.dynamic.size()) m.dynamic.resize(index + 1);
  SharedArray& array = m.dynamic[index];
  if (!array.data) array = m.make(bytes, alignment, where);
  if (array.bytes != bytes)
    violation(where, "dynamic shared array {} has {} bytes here and {} at {}", index, bytes,
              array.bytes, text_of(array.where));
  return in_block(array.data, executor().current().block);
}

AddressRange shared_range() {
  return {memory().base + executor().current().block * kBlockBytes, kBlockBytes};
}
AddressRange shared_range_of_all_blocks() { return {memory().base, kRangeBytes}; }

void* in_block(const void* place, unsigned block) {
  return memory().base + block * kBlockBytes +
         shared_range_of_all_blocks().offset_of(place) % kBlockBytes;
}
unsigned block_of(const void* place) {
  return static_cast<unsigned>(shared_range_of_all_blocks().offset_of(place) / kBlockBytes);
}

SharedMemoryOfCluster::~SharedMemoryOfCluster() {
  SharedMemory& m = memory();
  for (unsigned block = 0; block < executor().blocks(); ++block) {
    char* const begin = m.base + block * kBlockBytes;
    if (observer() && m.used > 0) observer()->guard(begin, m.used);
    poison(begin, m.used);
  }
  m.used = m.static_bytes = 0;
  m.arrays.clear();
  m.dynamic.clear();
}

void SharedMemoryOfCluster::check_guards() const {
  for (const SharedArray& a : memory().arrays)
    for (unsigned block = 0; block < executor().blocks(); ++block) {
      char* const data = static_cast<char*>(in_block(a.data, block));
      unpoison(data - kGuardBytes, a.bytes + 2 * kGuardBytes);
      const bool before = guard_intact(data - kGuardBytes, kGuardBytes);
      const bool after = guard_intact(data + a.bytes, kGuardBytes);
      if (!before || !after)
        throw_violation(fmt::format("wrote outside shared memory: {} the {} bytes declared at {}",
                                    before ? "after" : "before", a.bytes, text_of(a.where)));
    }
}

}  // namespace facet::emulated
