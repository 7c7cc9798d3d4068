#include "train/restored_run.h"

#include "base/log.h"
#include "train/data_identity.h"

namespace facet {

std::vector<StoredParam> stored_params(const std::vector<ParamGroup>& groups) {
  std::vector<StoredParam> stored;
  for (const ParamGroup& group : groups)
    for (const Param* param : group.params) stored.push_back({param, group.name});
  return stored;
}

void restore_run(CheckpointStore& store, const FoundCheckpoint& found, RunState& state,
                 Engine& engine, BadSampleBudget* bad_samples) {
  const RunState now = state;
  state = found.manifest.state;
  state.ranks = now.ranks;
  state.total_steps = now.total_steps;
  state.options = now.options;
  state.own_alphas = now.own_alphas;              // an older checkpoint does not tell them
  state.data_fingerprint = now.data_fingerprint;  // the same data, as their files are now
  log("continuing from {}: step {}, epoch {}, step {} of it", found.directory, state.step,
      state.epoch + 1, state.next_step);
  if (found.manifest.state.total_steps != now.total_steps)
    warn("the run had {} steps, now {}: the rates from here on follow the new number",
         found.manifest.state.total_steps, now.total_steps);
  for (const std::string& path : touched_files(found.manifest.state, now))
    warn(
        "{}: its size or time has changed since the checkpoint. What lies where in it has not; "
        "whether its content has is not known",
        path);
  store.load(found, stored_params(engine.groups()), engine.owned_state());
  engine.publish_state();
  engine.set_optimizer_steps(state.optimizer_steps);
  if (bad_samples != nullptr)
    bad_samples->restore(state.bad_samples_epoch, state.bad_samples_in_epoch,
                         state.bad_samples_total);
}

void restore_scaler(const RunState& state, std::optional<LossScaler>& scaler) {
  if (!scaler) return;
  if (state.loss_scaler.scale > 0)
    scaler->restore(state.loss_scaler);
  else
    warn("the checkpoint was not trained in fp16 and has no loss scale: it starts at {}",
         scaler->scale());
}

}  // namespace facet
