#include "device/cuda/pinned_inbox.h"

#include <algorithm>
#include <cstring>

#include "device/cuda/page_lock.h"

namespace facet {

PinnedInbox::PinnedInbox(const Stream& stream, int64_t bytes) : stream_(stream) {
  add_block(bytes);
}

PinnedInbox::~PinnedInbox() {
  // Copies may be in flight. Their errors are reported elsewhere.
  cudaStreamSynchronize(stream_);
  for (const Block& block : blocks_) cudaFreeHost(block.memory);
}

void PinnedInbox::copy(void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  char* const place = reserve(bytes);
  check_cuda(
      cudaMemcpyAsync(place, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
      "cannot copy to the host");
  outstanding_.push_back({to, place, bytes});
}

void PinnedInbox::deliver() {
  if (outstanding_.empty()) return;
  try {
    stream_.synchronize();
  } catch (...) {
    drop();  // the destinations go with whoever waited
    throw;
  }
  for (const Letter& letter : outstanding_)
    std::memcpy(letter.to, letter.landed, static_cast<size_t>(letter.bytes));
  drop();
}

// Later copies to the same memory come after those in flight.
void PinnedInbox::drop() {
  outstanding_.clear();
  block_ = 0;
  used_ = 0;
}

char* PinnedInbox::reserve(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  const int64_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (used_ + padded > blocks_[block_].capacity) {
    if (++block_ == blocks_.size()) add_block(std::max(padded, blocks_.back().capacity));
    used_ = 0;
  }
  char* const place = blocks_[block_].memory + used_;
  used_ += padded;
  return place;
}

void PinnedInbox::add_block(int64_t bytes) {
  blocks_.reserve(blocks_.size() + 1);
  blocks_.push_back({static_cast<char*>(page_lock(bytes, "copies from the GPU")), bytes});
}

}  // namespace facet
