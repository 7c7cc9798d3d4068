#include "train/save_schedule.h"

#include <algorithm>
#include <bit>

#include "job/slurm_time.h"
#include "job/stop_signals.h"

namespace facet {

namespace {

std::optional<double> time_limit_of(const Options& options, const Communicator& world) {
  constexpr double kSecondsOfHour = 3600;
  if (world.rank() != 0) return std::nullopt;
  if (options.max_hours > 0) return options.max_hours * kSecondsOfHour;
  return slurm_seconds_left();
}

}  // namespace

SaveSchedule::SaveSchedule(const Options& options, Communicator& world)
    : interval_(options.save_interval),
      save_seconds_(options.save_minutes * 60),
      max_seconds_(time_limit_of(options, world)),
      world_(world) {}

void SaveSchedule::begin(int64_t checkpoint_bytes) {
  constexpr double kSlowDisk = 1e8, kLeast = 1;  // bytes a second; seconds
  save_reserve_ = kSavesInReserve * (kLeast + static_cast<double>(checkpoint_bytes) / kSlowDisk);
  since_step_.restart();
}

// There must be time left for another step and the last save.
bool SaveSchedule::time_is_up() const {
  const double reserve = longest_step_seconds_ + save_reserve_;
  return max_seconds_ && since_start_.seconds() + reserve >= *max_seconds_;
}

SaveSchedule::Wish SaveSchedule::my_wish(int64_t step) const {
  if (stop_signal() != nullptr) return Wish::kSaveForSignal;
  if (time_is_up()) return Wish::kSaveForTimeLimit;
  const bool long_ago =
      world_.rank() == 0 && save_seconds_ > 0 && since_save_.seconds() >= save_seconds_;
  return long_ago || (interval_ > 0 && step % interval_ == 0) ? Wish::kSave : Wish::kNone;
}

SaveSchedule::Verdict SaveSchedule::after_step(int64_t step, int64_t bits) {
  constexpr int kWishAt = 8;
  longest_step_seconds_ = std::max(longest_step_seconds_, since_step_.seconds());
  since_step_.restart();
  // One bit per wish: the greatest wish of all ranks is the highest bit set.
  const int64_t mine = int64_t{1} << static_cast<int>(my_wish(step));
  const auto all = static_cast<uint64_t>(world_.bit_or(mine << kWishAt | bits));
  return {static_cast<Wish>(std::bit_width(all >> kWishAt) - 1),
          static_cast<int64_t>(all & ((1U << kWishAt) - 1))};
}

}  // namespace facet
