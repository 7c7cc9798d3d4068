// When a run saves a checkpoint between the ends of its epochs, and when it stops: --save_interval,
// --save_minutes, --max_hours and the stop signals.
#pragma once

#include <cstdint>

#include "base/timer.h"
#include "comm/communicator.h"
#include "train/options.h"

namespace facet {

class SaveSchedule {
 public:
  SaveSchedule(const Options& options, Communicator& world);

  enum class Wish : uint8_t { kNone, kSave, kSaveForTimeLimit, kSaveForSignal };
  static bool stops(Wish wish) { return wish >= Wish::kSaveForTimeLimit; }

  // Collective: what all ranks do behind this step. Clocks differ, so rank 0's counts; a signal to
  // any rank counts.
  Wish after_step(int64_t step);
  void saved(double seconds);

 private:
  bool time_is_up() const;

  int64_t interval_;
  double save_seconds_, max_seconds_;
  Communicator& world_;
  Timer since_start_, since_save_;
  double last_save_seconds_ = 0;
};

}  // namespace facet
