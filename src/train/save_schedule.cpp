#include "train/save_schedule.h"

#include <algorithm>
#include <bit>

#include "job/slurm_job.h"
#include "job/stop_signals.h"

namespace facet {

namespace {

std::optional<TimeLimit> time_limit_of(const Options& options, const Communicator& world) {
  const bool unlimited = options.max_hours == 0 && !SlurmJob::of_this_process().known();
  if (world.rank() != 0 || unlimited) return std::nullopt;
  return TimeLimit(options.max_hours);
}

}  // namespace

SaveSchedule::SaveSchedule(const Options& options, Communicator& world)
    : interval_(options.save_interval),
      save_seconds_(options.save_minutes * 60),
      limit_(time_limit_of(options, world)),
      world_(world) {}

void SaveSchedule::begin(int64_t checkpoint_bytes) {
  constexpr double kSlowDisk = 1e8, kLeast = 1;  // bytes a second; seconds
  save_reserve_ = kSavesInReserve * (kLeast + static_cast<double>(checkpoint_bytes) / kSlowDisk);
  since_chance_.restart();
}

// There must be time left until the next chance to stop, and for the last save.
bool SaveSchedule::time_is_up() {
  const std::optional<double> left = limit_ ? limit_->seconds_left() : std::nullopt;
  return left && *left <= longest_without_a_chance_ + save_reserve_;
}

SaveSchedule::Wish SaveSchedule::stop_wish(int64_t step, Met met) {
  if (met == Met::kError) return Wish::kEndForError;
  if (stop_signal() != nullptr) return Wish::kSaveForSignal;
  return step > 0 && time_is_up() ? Wish::kSaveForTimeLimit : Wish::kNone;
}

SaveSchedule::Wish SaveSchedule::save_wish(int64_t step) const {
  const bool long_ago =
      world_.rank() == 0 && save_seconds_ > 0 && since_save_.seconds() >= save_seconds_;
  return long_ago || (interval_ > 0 && step % interval_ == 0) ? Wish::kSave : Wish::kNone;
}

// One bit per wish: the greatest wish of all ranks is the highest bit set.
SaveSchedule::Verdict SaveSchedule::exchange(Wish mine, int64_t bits) {
  constexpr int kWishAt = 8;
  const int64_t wish = int64_t{1} << static_cast<int>(mine);
  const auto all = static_cast<uint64_t>(world_.bit_or(wish << kWishAt | bits));
  return {static_cast<Wish>(std::bit_width(all >> kWishAt) - 1),
          static_cast<int64_t>(all & ((1U << kWishAt) - 1))};
}

SaveSchedule::Verdict SaveSchedule::after_step(int64_t step, int64_t bits, Met met) {
  longest_without_a_chance_ = std::max(longest_without_a_chance_, since_chance_.seconds());
  since_chance_.restart();
  return exchange(std::max(stop_wish(step, met), save_wish(step)), bits);
}

// What comes before the first step says nothing about how long a step takes.
SaveSchedule::Verdict SaveSchedule::between_steps(int64_t step, int64_t bits, Met met) {
  if (step > 0)
    longest_without_a_chance_ = std::max(longest_without_a_chance_, since_chance_.seconds());
  since_chance_.restart();
  return exchange(stop_wish(step, met), bits);
}

}  // namespace facet
