// Copies from host to device memory through a ring buffer of page-locked memory: the caller may
// reuse its memory at once, and the host does not wait for the device. Each piece is guarded by an
// event; the host waits only if the ring is full of copies that have not run, and where the stream
// waits for other ranks meanwhile, then so does the host (Stream::synchronize).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/cuda/stream.h"

namespace facet {

// Rows of `row_bytes` on both sides; on the host they are dense.
struct HostToDeviceCopy {
  void* to;
  int64_t to_stride;  // bytes from one row to the next
  const void* from;
  int64_t row_bytes, rows;
};

class PinnedRing {
 public:
  // Copies run on `stream`, which must outlive the ring.
  PinnedRing(const Stream& stream, int64_t bytes);
  ~PinnedRing();
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  void copy(const HostToDeviceCopy& copy);
  void copy(void* to, const void* from, int64_t bytes) { copy({to, bytes, from, bytes, 1}); }

 private:
  // Positions count bytes from the beginning; `% capacity_` is the offset in the memory.
  struct Piece {
    int64_t end = 0;
    Event copied;
  };

  // Reserves `bytes` bytes, at most half the ring.
  char* reserve(int64_t bytes);
  // The last reservation becomes free once the stream has done its work so far.
  void release_behind_copies();
  void free_oldest_piece();

  const Stream& stream_;
  char* memory_ = nullptr;
  int64_t capacity_;
  int64_t used_end_ = 0;    // end of the newest piece
  int64_t used_begin_ = 0;  // begin of the oldest piece that may be in use
  std::vector<Piece> pieces_;
  size_t oldest_ = 0, num_pieces_ = 0;
};

}  // namespace facet
