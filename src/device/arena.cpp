#include "device/arena.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include <fmt/format.h>

#include "base/checked_math.h"
#include "device/memory_advice.h"

namespace facet {
namespace {
constexpr int64_t kAlignment = 64;
// Base of the addresses that a measuring arena hands out: not null and never mapped, so that a
// stray access crashes.
constexpr uintptr_t kMeasureBase = 64;

std::atomic<int64_t> held_bytes{0}, most_held_bytes{0};

void count(int64_t bytes) {
  const int64_t now = held_bytes += bytes;
  int64_t most = most_held_bytes;
  while (now > most && !most_held_bytes.compare_exchange_weak(most, now)) {
  }
}

// A run whose sizes have no number of bytes could not be planned, let alone allocated.
[[noreturn]] void refuse_size(const std::string& arena, std::initializer_list<int64_t> shape) {
  fail(ExitCode::kConfig,
       "{}: with a tensor of ({}) more than 2^62 bytes; correct config.json, or {}", arena,
       fmt::join(shape, ", "), memory_advice());
}
}  // namespace

Arena::Arena(std::string name, MemoryResource& memory) : name_(std::move(name)), memory_(&memory) {}

Arena::Arena(std::string name, int64_t capacity, MemoryResource& memory)
    : Arena(std::move(name), memory) {
  allocate(capacity);
}

Arena::~Arena() { give_back(); }

void Arena::give_back() {
  if (base_ == nullptr) return;
  memory_->free(std::exchange(base_, nullptr), capacity_);
  count(-capacity_);
}

int64_t Arena::held() { return held_bytes; }
int64_t Arena::most_held() { return most_held_bytes; }

void Arena::allocate(int64_t capacity) {
  ASSERT(base_ == nullptr && used_ == 0, "arena {} is in use", name_);
  capacity_ = std::max<int64_t>(capacity, kAlignment);
  base_ = static_cast<char*>(memory_->allocate(capacity_, name_));
  count(capacity_);
  peak_ = 0;
}

void Arena::resize(int64_t capacity) {
  ASSERT(base_ != nullptr && used_ == 0, "arena {} is in use, or only measures", name_);
  const int64_t before = capacity_, peak = peak_;
  give_back();
  try {
    allocate(capacity);
  } catch (const Error&) {
    allocate(before);
    peak_ = peak;
    throw;
  }
}

// Of a tensor at this place, aligned.
int64_t Arena::padded_bytes(std::initializer_list<int64_t> shape, DType dtype) const {
  constexpr int64_t kMost = int64_t{1} << 62;
  const auto elements = checked_product(shape);
  const auto bytes = checked_product({elements.value_or(-1), size_of(dtype)});
  if (!bytes || *bytes > kMost - used_) refuse_size(name_, shape);
  return (*bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Tensor Arena::tensor(std::initializer_list<int64_t> shape, DType dtype) {
  const int64_t padded = padded_bytes(shape, dtype);
  char* address = nullptr;
  if (measuring()) {
    address = reinterpret_cast<char*>(kMeasureBase + static_cast<uintptr_t>(used_));
  } else {
    ASSERT(used_ + padded <= capacity_,
           "arena {} of {} bytes is too small: {} in use, {} more requested", name_, capacity_,
           used_, padded);
    address = base_ + used_;
    if (padded > 0) memory_->forget(address, padded);
  }
  used_ += padded;
  peak_ = std::max(peak_, used_);
  return Tensor(address, shape, dtype, memory_->space());
}

void Arena::release(Mark mark) {
  ASSERT(mark <= used_, "arena {}: mark {} is above {}", name_, mark, used_);
  if (!measuring() && mark < used_) memory_->forget(base_ + mark, used_ - mark);
  used_ = mark;
}

}  // namespace facet
