#include "train/save_schedule.h"

#include <algorithm>

#include "train/stop_signals.h"

namespace facet {

SaveSchedule::SaveSchedule(const Options& options, Communicator& world)
    : interval_(options.save_interval),
      save_seconds_(options.save_minutes * 60),
      max_seconds_(options.max_hours * 3600),
      world_(world) {}

// The last save must fit in, and the next may take longer.
bool SaveSchedule::time_is_up() const {
  constexpr double kSavesInReserve = 3;
  return max_seconds_ > 0 &&
         since_start_.seconds() + kSavesInReserve * last_save_seconds_ >= max_seconds_;
}

SaveSchedule::Wish SaveSchedule::after_step(int64_t step) {
  Wish mine = Wish::kNone;
  if (interval_ > 0 && step % interval_ == 0) mine = Wish::kSave;
  if (world_.rank() == 0 && save_seconds_ > 0 && since_save_.seconds() >= save_seconds_)
    mine = Wish::kSave;
  if (world_.rank() == 0 && time_is_up()) mine = Wish::kSaveForTimeLimit;
  if (stop_signal() != nullptr) mine = Wish::kSaveForSignal;
  return static_cast<Wish>(world_.max(static_cast<int64_t>(mine)));
}

void SaveSchedule::saved(double seconds) {
  last_save_seconds_ = seconds;
  since_save_.restart();
}

}  // namespace facet
