#include "train/run_checkpoints.h"

#include <filesystem>
#include <span>
#include <vector>

#include "base/log.h"
#include "base/progress.h"
#include "base/timer.h"
#include "comm/mpi_session.h"
#include "train/restored_run.h"
#include "train/resume.h"

namespace facet {

RunCheckpoints::RunCheckpoints(const Options& options, Communicator& world,
                               const FaultInjection& injection, RunStatus& status)
    : options_(options),
      world_(world),
      status_(status),
      store_(
          options.output_dir + "/checkpoints", options.keep_last, world,
          [&injection, &world](const char* moment, int64_t step) {
            injection.at(moment, world.rank(), step);
          },
          options.checkpoint_io == "collective" ? CheckpointIo::kCollective : CheckpointIo::kPosix),
      schedule_(options, world),
      found_(store_.find_newest(check_stored_state)) {
  if (!found_) return;
  published_ = Mark(found_->manifest.state);
  newest_ = found_->directory;
  status_.set_step(published_.step);
  status_.set_checkpoint(found_->directory);
}

void RunCheckpoints::begin(Engine& engine) {
  schedule_.begin(estimated_bytes(arrays_of(stored_params(engine.groups()))));
  // The memory for copies is taken now, not hours later at the first save.
  if (engine.owned_state_is_copied())
    static_cast<void>(engine.owned_state());
  else if (options_.async_checkpoint)
    store_.reserve_copies(engine.owned_state());
}

void RunCheckpoints::restore(RunState& state, Engine& engine, BadSampleBudget* bad_samples) {
  restore_run(store_, *found_, state, engine, bad_samples);
  collectively(world_, [&] { cut_back_bad_lists(state); });
  note_bad_samples(state, bad_samples);
  schedule_.held_up();
}

// Bad samples listed after the checkpoint will be met, and listed, again.
void RunCheckpoints::cut_back_bad_lists(const RunState& state) const {
  if (world_.rank() != 0) return;
  for (size_t rank = 0; rank < state.bad_list_bytes.size(); ++rank)
    BadSampleList::cut_back(
        BadSampleList::path_for(options_.output_dir, static_cast<int64_t>(rank)),
        state.bad_list_bytes[rank]);
}

void RunCheckpoints::note_bad_samples(RunState& state, const BadSampleBudget* bad_samples) {
  bad_list_bytes_ =
      BadSampleList::bytes_of(BadSampleList::path_for(options_.output_dir, world_.rank()));
  if (bad_samples == nullptr) return;
  state.bad_samples_epoch = bad_samples->epoch();
  state.bad_samples_in_epoch = bad_samples->in_epoch_by_dataset();
  state.bad_samples_total = bad_samples->total_by_dataset();
}

void RunCheckpoints::save(RunState& state, Engine& engine, RunLogs& logs) {
  const InSection section(Section::kSave);
  settle(logs);
  put_off_ = false;
  tried_ = Mark(state);
  since_start_.restart();
  state.optimizer_steps = engine.optimizer_steps();
  gather_list_lengths(state);
  collectively(world_, [&] { logs.sync(state); });
  const std::vector<StoredParam> params = stored_params(engine.groups());
  if (beside_training_)
    store_.start_save(state, params, engine.owned_state(),
                      engine.owned_state_is_copied() ? RangesStay::kUntilWritten : RangesStay::kNo);
  else
    published(store_.save(state, params, engine.owned_state()), logs);
  blocked_seconds_ = since_start_.seconds();
  schedule_.count_from_here();
  schedule_.held_up();
}

void RunCheckpoints::settle(RunLogs& logs) {
  if (!store_.saving()) return;
  logs.line(
      fmt::format("waiting for the checkpoint of step {} to be written", store_.saving_step()));
  finish(logs);
}

void RunCheckpoints::settle_after_error(RunLogs& logs) {
  try {
    settle(logs);
  } catch (const CollectiveError& error) {
    warn("the checkpoint being written is lost too: {}", error.what());
  }
}

void RunCheckpoints::forget_if_removed() {
  std::error_code ignored;
  const double gone =
      world_.rank() == 0 && published_.step > 0 && !std::filesystem::exists(newest_, ignored);
  const std::span<const double> of_ranks = world_.all_gather(std::span(&gone, 1));
  if (of_ranks[0] == 0) return;
  tried_ = published_ = {};
  status_.set_checkpoint("none");
}

SaveSchedule::Wish RunCheckpoints::after_step(int64_t step, SaveSchedule::Met met, RunLogs& logs) {
  using Wish = SaveSchedule::Wish;
  const auto [wish, bits] = schedule_.after_step(step, store_.progress_bits(), met);
  if (store_.saving() && CheckpointStore::save_is_over(bits)) finish(logs);
  if (SaveSchedule::stops(wish)) return wish;
  if (store_.saving()) {
    if (wish == Wish::kSave && store_.saving_step() != step) put_off(step, logs);
    return Wish::kNone;
  }
  return put_off_ ? Wish::kSave : wish;
}

SaveSchedule::Wish RunCheckpoints::between_steps(int64_t step, SaveSchedule::Met met,
                                                 RunLogs& logs) {
  const auto [wish, bits] = schedule_.between_steps(step, store_.progress_bits(), met);
  if (store_.saving() && CheckpointStore::save_is_over(bits)) finish(logs);
  return wish;
}

void RunCheckpoints::put_off(int64_t step, RunLogs& logs) {
  if (!put_off_)
    logs.line(fmt::format("the checkpoint of step {} is put off: that of step {} is still written",
                          step, store_.saving_step()));
  put_off_ = true;
}

void RunCheckpoints::finish(RunLogs& logs) {
  const InSection section(Section::kSave);
  const Timer timer;
  const std::string directory = store_.finish_save();
  blocked_seconds_ += timer.seconds();
  published(directory, logs);
  schedule_.held_up();
}

void RunCheckpoints::published(const std::string& directory, RunLogs& logs) {
  const double seconds = since_start_.seconds();
  const char* const again = published_.step == tried_.step ? "renewed " : "";
  published_ = tried_;
  newest_ = directory;
  status_.set_checkpoint(directory);
  schedule_.saved(seconds);
  logs.line(beside_training_
                ? fmt::format("{}checkpoint {} in {:.2f} s, {:.3f} s of them without training",
                              again, directory, seconds, blocked_seconds_)
                : fmt::format("{}checkpoint {} in {:.2f} s", again, directory, seconds));
}

// All ranks' lists of bad samples.
void RunCheckpoints::gather_list_lengths(RunState& state) {
  state.bad_list_bytes.clear();
  const auto mine = static_cast<double>(bad_list_bytes_);
  for (const double bytes : world_.all_gather(std::span(&mine, 1)))
    state.bad_list_bytes.push_back(static_cast<int64_t>(bytes));
}

}  // namespace facet
