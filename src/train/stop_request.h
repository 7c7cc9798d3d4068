// A run that is asked to stop while it evaluates or exports gives that up: every rank throws this,
// and TrainingLoop saves and stops. The same command begins the evaluation or export again.
#pragma once

#include "comm/mpi_session.h"
#include "train/run.h"

namespace facet {

class StopRequested : public CollectiveError {
 public:
  explicit StopRequested(SaveSchedule::Wish wish)
      : CollectiveError(ExitCode::kSaved, "the run is asked to stop"), wish_(wish) {}
  SaveSchedule::Wish wish() const { return wish_; }

 private:
  SaveSchedule::Wish wish_;
};

// What the ranks have agreed on is thrown on all of them: StopRequested, or the error that one met.
void obey(Run& run, SaveSchedule::Wish wish);

// Collective, between two batches of an evaluation or two pieces of an export: a chance to stop.
void give_a_chance_to_stop(Run& run);

}  // namespace facet
