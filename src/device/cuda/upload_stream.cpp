#include "device/cuda/upload_stream.h"

namespace facet {

UploadStream::UploadStream(const Stream& compute, int64_t ring_bytes)
    : compute_(compute), ring_(copies_, ring_bytes) {
  copies_.before_synchronize([this] { return compute_.follow_oldest(); });
}

int UploadStream::next(UploadTurns& turns) {
  UploadTurns::Piece& before = turns.pieces_[static_cast<size_t>(turns.now_)];
  before.left.record(compute_);
  before.was_used = true;
  turns.now_ = (turns.now_ + 1) % UploadTurns::kPieces;
  const UploadTurns::Piece& piece = turns.pieces_[static_cast<size_t>(turns.now_)];
  if (piece.was_used) copies_.wait(piece.left);
  return turns.now_;
}

void UploadStream::copy(void* to, const void* from, int64_t bytes) {
  ring_.copy(to, from, bytes);
  arrived_.record(copies_);
  compute_.wait(arrived_);
}

void UploadStream::follow_compute() noexcept {
  static_cast<void>(cudaEventRecord(computed_, compute_));
  static_cast<void>(cudaStreamWaitEvent(copies_, computed_, 0));
}

}  // namespace facet
