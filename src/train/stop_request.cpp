#include "train/stop_request.h"

namespace facet {

void obey(Run& run, SaveSchedule::Wish wish) {
  if (wish == SaveSchedule::Wish::kEndForError) run.local_error.throw_on_all(run.world);
  if (SaveSchedule::stops(wish)) throw StopRequested(wish);
}

void give_a_chance_to_stop(Run& run) {
  obey(run, run.checkpoints->between_steps(run.state.step, run.met(), run.logs));
}

}  // namespace facet
