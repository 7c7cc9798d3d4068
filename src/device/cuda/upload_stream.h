// Copies to the device on a stream of their own, which run beside what the compute stream does:
// what a micro-batch needs goes there while the one before it is computed. It goes to memory that
// exists twice, and the two pieces take turns (UploadTurns).
//
//   const int piece = uploads.next(turns);     // what its last turn brought is no longer read
//   uploads.copy(memory[piece], host, bytes);  // from here on the compute stream sees it
#pragma once

#include <array>
#include <cstdint>

#include "device/cuda/pinned_ring.h"
#include "device/cuda/stream.h"

namespace facet {

// Whose turn it is of two pieces of memory, and from when on each may be written again.
class UploadTurns {
 public:
  static constexpr int kPieces = 2;

 private:
  friend class UploadStream;
  struct Piece {
    Event left;  // by the compute stream
    bool was_used = false;
  };
  std::array<Piece, kPieces> pieces_;
  int now_ = 0;
};

class UploadStream {
 public:
  // Copies go through a ring of `ring_bytes` bytes of page-locked memory. Uploads are seen by
  // `compute`, which must outlive this.
  UploadStream(const Stream& compute, int64_t ring_bytes);

  // The other piece, for uploads from here on: they begin when the compute stream has done what it
  // was given until this piece was last left.
  int next(UploadTurns& turns);

  // The caller may reuse `from` at once. What the compute stream is given from here on comes after
  // the copy.
  void copy(void* to, const void* from, int64_t bytes);

  // The copies' stream: for memory that they alone write.
  const Stream& stream() const { return copies_; }

  // What the copies' stream is given from here on comes after all of the compute stream so far:
  // before memory of uploads is freed. Throws nothing: errors are reported to whoever waits.
  void follow_compute() noexcept;

 private:
  const Stream& compute_;
  Stream copies_;
  PinnedRing ring_;
  Event arrived_, computed_;
};

}  // namespace facet
