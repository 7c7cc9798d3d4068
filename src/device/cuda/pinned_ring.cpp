#include "device/cuda/pinned_ring.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "device/cuda/page_lock.h"

namespace facet {
namespace {
constexpr size_t kPieces = 256;      // copies in flight at once
constexpr int64_t kAlignment = 256;  // of a piece
}  // namespace

PinnedRing::PinnedRing(const Stream& stream, int64_t bytes)
    : stream_(stream), capacity_(bytes), pieces_(kPieces) {
  ASSERT(bytes > 0 && bytes % (2 * kAlignment) == 0, "a ring of {} bytes", bytes);
  memory_ = static_cast<char*>(page_lock(bytes, "copies to the GPU"));
}

PinnedRing::~PinnedRing() {
  // Copies may be in flight. Their errors are reported elsewhere.
  cudaStreamSynchronize(stream_);
  cudaFreeHost(memory_);
}

void PinnedRing::copy(const HostToDeviceCopy& copy) {
  if (copy.row_bytes == 0) return;
  // Dense rows are treated as one long row, which may be cut anywhere.
  if (copy.rows > 1 && copy.to_stride == copy.row_bytes) {
    const int64_t bytes = copy.rows * copy.row_bytes;
    return this->copy({copy.to, bytes, copy.from, bytes, 1});
  }
  const int64_t most = capacity_ / 2;
  for (int64_t row = 0; row < copy.rows; ++row) {
    char* to = static_cast<char*>(copy.to) + row * copy.to_stride;
    const char* from = static_cast<const char*>(copy.from) + row * copy.row_bytes;
    for (int64_t begin = 0; begin < copy.row_bytes; begin += most) {
      const int64_t bytes = std::min(most, copy.row_bytes - begin);
      char* piece = reserve(bytes);
      std::memcpy(piece, from + begin, static_cast<size_t>(bytes));
      check_cuda(cudaMemcpyAsync(to + begin, piece, static_cast<size_t>(bytes),
                                 cudaMemcpyHostToDevice, stream_),
                 "cannot copy to the device");
      release_behind_copies();
    }
  }
}

char* PinnedRing::reserve(int64_t bytes) {
  const int64_t padded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  // A piece never wraps around the end of the memory.
  const int64_t place = used_end_ % capacity_;
  const int64_t begin = place + padded <= capacity_ ? used_end_ : used_end_ + capacity_ - place;
  if (num_pieces_ == pieces_.size()) free_oldest_piece();
  while (num_pieces_ > 0 && begin + padded - used_begin_ > capacity_) free_oldest_piece();
  used_end_ = begin + padded;
  return memory_ + begin % capacity_;
}

void PinnedRing::release_behind_copies() {
  Piece& piece = pieces_[(oldest_ + num_pieces_) % pieces_.size()];
  piece.end = used_end_;
  piece.copied.record(stream_);
  ++num_pieces_;
}

void PinnedRing::free_oldest_piece() {
  const Piece& piece = pieces_[oldest_];
  stream_.synchronize(piece.copied);
  used_begin_ = piece.end;
  oldest_ = (oldest_ + 1) % pieces_.size();
  --num_pieces_;
}

}  // namespace facet
