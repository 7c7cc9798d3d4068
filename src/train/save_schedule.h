// When a run saves a checkpoint between the ends of its epochs, and when it stops: --save_interval,
// --save_minutes, --max_hours or Slurm's time limit, the stop signals, and errors that one rank met
// between two steps.
#pragma once

#include <cstdint>
#include <optional>

#include "base/timer.h"
#include "comm/communicator.h"
#include "job/time_limit.h"
#include "options/options.h"

namespace facet {

class SaveSchedule {
 public:
  SaveSchedule(const Options& options, Communicator& world);

  // Training begins; its checkpoints will have this many bytes.
  void begin(int64_t checkpoint_bytes);

  enum class Wish : uint8_t { kNone, kSave, kSaveForTimeLimit, kSaveForSignal, kEndForError };
  static bool stops(Wish wish) { return wish >= Wish::kSaveForTimeLimit; }

  // What this rank met since the last exchange, see local_error.h.
  enum class Met : uint8_t { kNothing, kError };

  // What all ranks agree on, in one exchange.
  struct Verdict {
    Wish wish = Wish::kNone;
    int64_t bits = 0;  // of all ranks, or-ed
  };
  // Collective, after a step. Clocks differ, so rank 0's counts; a signal to any rank counts, and
  // so does an error of any. `bits` (up to 8) are combined in the same exchange for another
  // purpose.
  Verdict after_step(int64_t step, int64_t bits, Met met = Met::kNothing);
  // The same within what follows a step: between two batches of an evaluation or two pieces of an
  // export. Nothing is saved there, so the wish is kNone or to stop. Before the first step there is
  // nothing to lose, and the time limit is left alone: a run gets somewhere however short it is.
  Verdict between_steps(int64_t step, int64_t bits, Met met = Met::kNothing);

  // The interval until the next save by the clock starts here.
  void count_from_here() { since_save_.restart(); }
  // Training was held up by a save, which is measured by itself.
  void held_up() { since_chance_.restart(); }
  void saved(double seconds) { save_reserve_ = kSavesInReserve * seconds; }

 private:
  static constexpr double kSavesInReserve = 3;  // the next one may take longer than the last

  bool time_is_up();
  Wish stop_wish(int64_t step, Met met);
  Wish save_wish(int64_t step) const;
  Verdict exchange(Wish mine, int64_t bits);

  int64_t interval_;
  double save_seconds_;
  std::optional<TimeLimit> limit_;  // on rank 0, where there is one
  Communicator& world_;
  Timer since_save_, since_chance_;
  double save_reserve_ = 0;              // seconds; a guess until a save has been measured
  double longest_without_a_chance_ = 0;  // seconds between two chances to stop: a step, mostly
};

}  // namespace facet
