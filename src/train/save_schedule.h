// When a run saves a checkpoint between the ends of its epochs, and when it stops: --save_interval,
// --save_minutes, --max_hours or Slurm's time limit, and the stop signals.
#pragma once

#include <cstdint>
#include <optional>

#include "base/timer.h"
#include "comm/communicator.h"
#include "options/options.h"

namespace facet {

class SaveSchedule {
 public:
  SaveSchedule(const Options& options, Communicator& world);

  // Training begins; its checkpoints will have this many bytes.
  void begin(int64_t checkpoint_bytes);

  enum class Wish : uint8_t { kNone, kSave, kSaveForTimeLimit, kSaveForSignal };
  static bool stops(Wish wish) { return wish >= Wish::kSaveForTimeLimit; }

  // What all ranks agree on after a step, in one exchange.
  struct Verdict {
    Wish wish = Wish::kNone;
    int64_t bits = 0;  // of all ranks, or-ed
  };
  // Collective. Clocks differ, so rank 0's counts; a signal to any rank counts. `bits` (up to 8)
  // are combined in the same exchange for another purpose.
  Verdict after_step(int64_t step, int64_t bits);
  // The interval until the next save by the clock starts here.
  void count_from_here() { since_save_.restart(); }
  void saved(double seconds) { save_reserve_ = kSavesInReserve * seconds; }

 private:
  static constexpr double kSavesInReserve = 3;  // the next one may take longer than the last

  bool time_is_up() const;
  Wish my_wish(int64_t step) const;

  int64_t interval_;
  double save_seconds_;
  std::optional<double> max_seconds_;  // of rank 0
  Communicator& world_;
  Timer since_start_, since_save_, since_step_;
  double save_reserve_ = 0;          // seconds; a guess until a save has been measured
  double longest_step_seconds_ = 0;  // evaluations, exports and saves between two steps included
};

}  // namespace facet
