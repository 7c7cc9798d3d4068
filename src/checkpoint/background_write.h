// Writing a rank's part of a checkpoint beside the training: from a copy of the state, on a thread
// of its own that knows neither MPI nor HDF5.
#pragma once

#include <atomic>
#include <future>
#include <span>
#include <stop_token>
#include <vector>

#include "checkpoint/state_file.h"
#include "device/arena.h"

namespace facet {

// A copy in host memory of the ranges that a rank owns.
class Snapshot {
 public:
  // Takes the memory once, for ranges of these sizes.
  void reserve(std::span<const StateRange> ranges);
  // Copies the values and moments; the result points into the copy.
  std::span<const StateRange> take(std::span<const StateRange> ranges);

  // What reserve() takes for so many elements.
  static int64_t bytes_for(int64_t elements);

 private:
  Arena memory_{"the copy of the state"};
  Tensor floats_;
  std::vector<StateRange> copies_;
};

// Do ranges change while they are written?
enum class RangesStay : uint8_t { kNo, kUntilWritten };

class BackgroundWrite {
 public:
  ~BackgroundWrite();

  void reserve(std::span<const StateRange> ranges) { snapshot_.reserve(ranges); }

  // Copies the ranges, unless they stay as they are, then returns while a thread writes them. One
  // at a time.
  void start(const std::string& path, const std::vector<StoredArray>& arrays,
             std::span<const StateRange> ranges, RangesStay stay, const WriteMoments& at_moment);

  enum class Progress : uint8_t { kWriting, kWritten, kFailed };
  Progress progress() const { return progress_; }
  // The thread gives up soon; take() then returns what nobody wants.
  void stop() { stop_.request_stop(); }
  // Waits for the thread and throws what ended it, if something did.
  std::vector<WrittenRange> take();

 private:
  Snapshot snapshot_;
  std::vector<StateRange> ranges_;  // of the write that goes on
  std::stop_source stop_;
  std::atomic<Progress> progress_{Progress::kWritten};
  std::future<std::vector<WrittenRange>> thread_;
};

}  // namespace facet
