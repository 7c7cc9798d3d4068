// Stage 3 with offloaded parameters: a rank's slices are in page-locked memory of the host, and
// come to the device to be gathered, those of the next unit while this one computes. Two units'
// slices are on the device at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "device/arena.h"
#include "zero/offload.h"

namespace facet {

class SliceUploads {
 public:
  // `longest`: elements of the largest slices of a unit, trained and frozen together.
  SliceUploads(HostCopies& copies, DType dtype, int64_t longest, MemoryResource& device);

  static constexpr int kNone = -1;
  bool has(int unit) const;
  // Whose place start() takes next, or kNone.
  int replaced() const { return slots_[next_].unit; }
  // Starts to bring a unit's slices, after what the compute stream was given so far.
  void start(int unit, const Tensor& trained, const Tensor& frozen);
  struct Slices {
    Tensor trained, frozen;
  };
  // Of a unit that was started: the compute stream has them from here on.
  Slices take(int unit);
  // One vector that the compute stream has from here on, until the next call of any of these.
  Tensor bring(const Tensor& slice);
  // The slices are about to change: the host waits for what is on its way, and nothing is kept.
  void forget();

  // The memory stays: somebody may still use it.
  void leak() { static_cast<void>(memory_.release()); }

  static int64_t bytes(DType dtype, int64_t longest);

 private:
  struct Slot {
    Tensor memory;  // (longest)
    int unit = kNone;
    Slices slices;
    HostCopies::Ticket came;
  };
  static std::array<Slot, 2> allocate(Arena& memory, DType dtype, int64_t longest);
  Tensor start_at(Slot& slot, int64_t begin, const Tensor& slice);

  HostCopies& copies_;
  std::unique_ptr<Arena> memory_;
  std::array<Slot, 2> slots_;
  size_t next_ = 0;  // of slots_
};

}  // namespace facet
