// The way from host to device memory: page-locked memory that is used round and round, so that the
// caller may reuse what he gave at once and the host does not wait for the device. A piece is
// guarded by an event; the host waits only where the ring is full of copies that have not run.
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
  // Positions count bytes since the beginning; `% capacity_` is the place in the memory.
  struct Piece {
    int64_t end = 0;
    Event copied;
  };

  // A place for `bytes` bytes, at most half the ring.
  char* reserve(int64_t bytes);
  // What was reserved last is free once the stream has done what it was given so far.
  void release_behind_copies();
  void free_oldest_piece();

  const Stream& stream_;
  char* memory_ = nullptr;
  int64_t capacity_;
  int64_t used_end_ = 0;    // of the newest piece
  int64_t used_begin_ = 0;  // of the oldest piece that may be in use
  std::vector<Piece> pieces_;
  size_t oldest_ = 0, num_pieces_ = 0;
};

}  // namespace facet
