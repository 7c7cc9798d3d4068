#include "device/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace facet {
namespace {
constexpr int64_t kAlignment = 64;
// Measuring hands out addresses from here on: not null, never mapped, so that a stray access is a
// crash.
constexpr uintptr_t kMeasureBase = 64;

std::atomic<int64_t> held_bytes{0}, most_held_bytes{0};

void count(int64_t bytes) {
  const int64_t now = held_bytes += bytes;
  int64_t most = most_held_bytes;
  while (now > most && !most_held_bytes.compare_exchange_weak(most, now)) {
  }
}

#ifdef FACET_CHECKED
void fill_nan(char* begin, int64_t bytes) { std::memset(begin, 0xff, static_cast<size_t>(bytes)); }
#else
void fill_nan(char*, int64_t) {}
#endif
}  // namespace

Arena::Arena(std::string name) : name_(std::move(name)) {}

Arena::Arena(std::string name, int64_t capacity) : name_(std::move(name)) { allocate(capacity); }

Arena::~Arena() {
  if (base_ == nullptr) return;
  munmap(base_, static_cast<size_t>(capacity_));
  count(-capacity_);
}

int64_t Arena::held() { return held_bytes; }
int64_t Arena::most_held() { return most_held_bytes; }

void Arena::allocate(int64_t capacity) {
  ASSERT(base_ == nullptr && used_ == 0, "arena {} is in use", name_);
  capacity_ = std::max<int64_t>(capacity, kAlignment);
  void* memory = mmap(nullptr, static_cast<size_t>(capacity_), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(
      memory != MAP_FAILED, ExitCode::kConfig,
      "cannot reserve {:.1f} MiB for {}: {}; lower --per_device_train_batch_size or --max_seq_len",
      static_cast<double>(capacity_) / 1048576.0, name_, std::strerror(errno));
  madvise(memory, static_cast<size_t>(capacity_), MADV_HUGEPAGE);
  base_ = static_cast<char*>(memory);
  count(capacity_);
  peak_ = 0;
}

Tensor Arena::tensor(std::initializer_list<int64_t> shape, DType dtype) {
  int64_t bytes = size_of(dtype);
  for (const int64_t size : shape) bytes *= size;
  const int64_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  char* address = nullptr;
  if (measuring()) {
    address = reinterpret_cast<char*>(kMeasureBase + static_cast<uintptr_t>(used_));
  } else {
    ASSERT(used_ + padded <= capacity_,
           "arena {} of {} bytes is too small: {} in use, {} more wanted", name_, capacity_, used_,
           padded);
    address = base_ + used_;
    fill_nan(address, padded);
  }
  used_ += padded;
  peak_ = std::max(peak_, used_);
  return Tensor(address, shape, dtype);
}

void Arena::release(Mark mark) {
  ASSERT(mark <= used_, "arena {}: mark {} lies above {}", name_, mark, used_);
  if (!measuring()) fill_nan(base_ + mark, used_ - mark);
  used_ = mark;
}

}  // namespace facet
