// The state of a training run apart from parameters and moments: everything that the next step
// depends on, and what identifies the run when it is resumed.
//
// Random streams are pure functions of (seed, purpose, epoch, index) (base/rng.h), so their state
// is the seed and the counters here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "optim/loss_scaler.h"

namespace facet {

struct RunState {
  // The place in the run.
  int64_t step = 0;              // training steps taken, skipped ones included
  int64_t epoch = 0;             // of the next step, counted from 0
  int64_t next_step = 0;         // the next step within its epoch, counted from 0
  int64_t closed_step = 0;       // the step after which an epoch was last evaluated and exported
  int64_t last_evaluation = -1;  // the step after which it was made
  int64_t optimizer_steps = 0;   // of AdamW and of the schedule

  // Counters.
  int64_t skipped_steps = 0;
  int64_t bad_steps_in_a_row = 0;
  LossScalerState loss_scaler;  // of the next step; a scale of 0 where none is used
  int64_t samples_seen = 0;
  int64_t unlabelled_micro_batches = 0;
  double epoch_loss_sum = 0;  // over the labelled tokens of the current epoch
  int64_t epoch_labelled_tokens = 0;
  int64_t best_step = -1;  // step of the evaluation with the lowest loss; -1: none yet
  double best_loss = 0;
  int64_t bad_samples_epoch = -1;             // the epoch that bad_samples_in_epoch counts
  std::vector<int64_t> bad_samples_in_epoch;  // by data set
  std::vector<int64_t> bad_samples_total;

  // How far the logs reach; a continued run writes again what comes after that.
  int64_t loss_log_bytes = 0;
  int64_t eval_log_bytes = 0;
  std::vector<int64_t> bad_list_bytes;  // of each rank's list of bad samples

  // How matrix products are computed (train/product_choices.h); "": nobody chose.
  // In the manifest alone, and left out there while it is empty.
  std::string product_choices;
  // Of single modules' LoRA (train/lora_alphas.h). In the manifest alone; older ones don't say.
  std::optional<std::string> own_alphas;

  // The identity of the run.
  int64_t rng_seed = 0;
  int64_t ranks = 1;
  int64_t global_batch = 0;  // samples of a full step
  int64_t total_steps = 0;
  std::string data_fingerprint;         // train/data_identity.h
  std::vector<std::string> data_files;  // paths, for messages; not stored
  std::string frozen_hash;              // of the names and bytes of all frozen parameters
  std::string options;                  // lines of "name = value"
};

// Calls visit("name", field) for every field, in the order of the files.
template <typename State, typename Visit>
void visit_fields(State& state, Visit&& visit) {
  visit("step", state.step);
  visit("epoch", state.epoch);
  visit("next_step", state.next_step);
  visit("closed_step", state.closed_step);
  visit("last_evaluation", state.last_evaluation);
  visit("optimizer_steps", state.optimizer_steps);
  visit("skipped_steps", state.skipped_steps);
  visit("bad_steps_in_a_row", state.bad_steps_in_a_row);
  visit("loss_scale", state.loss_scaler.scale);
  visit("loss_scale_hysteresis", state.loss_scaler.hysteresis);
  visit("loss_scale_good_steps", state.loss_scaler.good_steps);
  visit("samples_seen", state.samples_seen);
  visit("unlabelled_micro_batches", state.unlabelled_micro_batches);
  visit("epoch_loss_sum", state.epoch_loss_sum);
  visit("epoch_labelled_tokens", state.epoch_labelled_tokens);
  visit("best_step", state.best_step);
  visit("best_loss", state.best_loss);
  visit("bad_samples_epoch", state.bad_samples_epoch);
  visit("bad_samples_in_epoch", state.bad_samples_in_epoch);
  visit("bad_samples_total", state.bad_samples_total);
  visit("loss_log_bytes", state.loss_log_bytes);
  visit("eval_log_bytes", state.eval_log_bytes);
  visit("bad_list_bytes", state.bad_list_bytes);
  visit("rng_seed", state.rng_seed);
  visit("ranks", state.ranks);
  visit("global_batch", state.global_batch);
  visit("total_steps", state.total_steps);
  visit("data_fingerprint", state.data_fingerprint);
  visit("frozen_hash", state.frozen_hash);
  visit("options", state.options);
}

}  // namespace facet
