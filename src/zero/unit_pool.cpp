#include "zero/unit_pool.h"

#include <utility>

#include "base/check.h"

namespace facet {

UnitPool::UnitPool(std::string name, ParamTable::Memory memory, DType dtype,
                   MemoryResource& resource)
    : name_(std::move(name)), memory_(memory), dtype_(dtype), resource_(&resource) {}

// The smallest free buffer that is large enough, else the largest free one, else -1.
int UnitPool::smallest_fitting(int64_t elements) const {
  int best = -1;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    if (buffers_[i].used) continue;
    const int64_t size = buffers_[i].whole.numel();
    const int64_t best_size = best < 0 ? -1 : buffers_[static_cast<size_t>(best)].whole.numel();
    const bool better =
        best_size < elements ? size > best_size : size >= elements && size < best_size;
    if (better) best = static_cast<int>(i);
  }
  return best;
}

void UnitPool::grow(Buffer& buffer, int64_t elements) const {
  buffer.memory.reset();
  buffer.memory = std::make_unique<Arena>(name_, *resource_);
  buffer.whole = buffer.memory->tensor({elements}, dtype_);
  if (memory_ != ParamTable::Memory::kReal) return;
  const int64_t bytes = buffer.memory->peak();
  buffer.memory->release(0);
  buffer.memory->allocate(bytes);
  buffer.whole = buffer.memory->tensor({elements}, dtype_);
}

int UnitPool::acquire(int64_t elements) {
  int number = smallest_fitting(elements);
  if (number < 0) {
    number = static_cast<int>(buffers_.size());
    buffers_.emplace_back();
  }
  Buffer& buffer = buffers_[static_cast<size_t>(number)];
  if (buffer.memory == nullptr || buffer.whole.numel() < elements) grow(buffer, elements);
  buffer.used = true;
  return number;
}

Tensor UnitPool::buffer(int number, int64_t elements) const {
  const Buffer& buffer = buffers_[static_cast<size_t>(number)];
  ASSERT(buffer.used && elements <= buffer.whole.numel(), "{}: {} elements of buffer {}", name_,
         elements, number);
  return buffer.whole.range(0, elements);
}

void UnitPool::release(int number) {
  Buffer& buffer = buffers_[static_cast<size_t>(number)];
  ASSERT(buffer.used, "{}: buffer {} is released twice", name_, number);
  buffer.used = false;
  buffer.memory->release(0);
  buffer.whole = buffer.memory->tensor({buffer.whole.numel()}, dtype_);
}

int64_t UnitPool::bytes() const {
  int64_t bytes = 0;
  for (const Buffer& buffer : buffers_) bytes += buffer.memory->peak();  // with its padding
  return bytes;
}

}  // namespace facet
