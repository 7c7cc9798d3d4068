// A stream for work beside another stream's: between follow(other) and precede(other), what both
// are given may run at the same time. Where blocks of both wait for a place on the GPU, those of
// this stream go first.
#pragma once

#include "device/cuda/stream.h"

namespace facet {

class SideStream {
 public:
  SideStream();
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;
  operator cudaStream_t() const { return stream_; }

  // What it is given from here on comes after all of `other` so far.
  void follow(cudaStream_t other);
  // What `other` is given from here on comes after all of this stream so far.
  void precede(cudaStream_t other);

 private:
  Event event_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace facet
