// Writes a rank's part of a checkpoint while training continues: from a copy of the state, on a
// separate thread that uses neither MPI nor HDF5.
#pragma once

#include <atomic>
#include <future>
#include <span>
#include <stop_token>
#include <vector>

#include "checkpoint/state_file.h"
#include "device/arena.h"

namespace facet {

// A host-memory copy of the ranges that a rank owns.
class Snapshot {
 public:
  // Allocates the memory once, for ranges of these sizes.
  void reserve(std::span<const StateRange> ranges);
  // Copies the values and moments; the result points into the copy.
  std::span<const StateRange> take(std::span<const StateRange> ranges);

  // The bytes that reserve() allocates for that many elements.
  static int64_t bytes_for(int64_t elements);

 private:
  Arena memory_{"the copy of the state"};
  Tensor floats_;
  std::vector<StateRange> copies_;
};

// Can ranges change while they are being written?
enum class RangesStay : uint8_t { kNo, kUntilWritten };

class BackgroundWrite {
 public:
  ~BackgroundWrite();

  void reserve(std::span<const StateRange> ranges) { snapshot_.reserve(ranges); }

  // Copies the ranges, unless they do not change, then returns while a thread writes them. One
  // write at a time. Error(kSystem) if the thread can't start.
  void start(const std::string& path, const std::vector<StoredArray>& arrays,
             std::span<const StateRange> ranges, RangesStay stay, const WriteMoments& at_moment);

  enum class Progress : uint8_t { kWriting, kWritten, kFailed };
  Progress progress() const { return progress_; }
  // Makes the thread give up soon; the result of take() is then meaningless.
  void stop() { stop_.request_stop(); }
  // The same, and waits for that. Another write may follow.
  void give_up();
  // Waits for the thread; rethrows its exception, if any.
  std::vector<WrittenRange> take();

 private:
  Snapshot snapshot_;
  std::vector<StateRange> ranges_;  // of the write in progress
  std::stop_source stop_;
  std::atomic<Progress> progress_{Progress::kWritten};
  std::future<std::vector<WrittenRange>> thread_;
};

}  // namespace facet
