#include "train/replay_step.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/log.h"
#include "base/progress.h"
#include "checkpoint/frozen_hash.h"
#include "io/file.h"
#include "train/commands.h"
#include "train/product_choices.h"
#include "train/recording_source.h"
#include "train/restored_run.h"
#include "train/resume.h"
#include "train/step_comparison.h"
#include "train/step_samples.h"

namespace facet {

namespace {

// A step that is repeated shall leave nothing behind.
Options writing_nothing(Options options) {
  options.output_dir.clear();  // lists of bad samples
  options.data_debug_path.clear();
  options.dump_batches = 0;
  options.vision_image_by_image |= !options.feature_cache.empty();  // all images are computed
  options.feature_cache.clear();
  return options;
}

template <typename Make>
auto made_collectively(Communicator& world, const Make& make) {
  decltype(make()) made;
  collectively(world, [&] { made = make(); });
  return made;
}

FaultInjection faults_of(const Options& options) {
  FaultInjection faults = FaultInjection::of_run(options.inject);
  if (!faults.told().empty()) warn("faults are planted in this run: {}", faults.told());
  return faults;
}

std::unique_ptr<RunLock> lock_of(const Options& options, const Communicator& world) {
  if (world.rank() != 0) return nullptr;
  std::error_code error;
  CHECK(std::filesystem::is_directory(options.output_dir, error), ExitCode::kMissingInput,
        "--replay_step {}: there is no run in {}, which is no directory", options.replay_step,
        options.output_dir);
  return std::make_unique<RunLock>(options.output_dir);
}

std::unique_ptr<const LogTable> log_of(const Options& options, const Communicator& world) {
  if (world.rank() != 0) return nullptr;
  auto log = std::make_unique<const LogTable>(options.output_dir + "/loss_log.csv");
  CHECK(log->row_of_step(options.replay_step), ExitCode::kConfig,
        "--replay_step {}: {} has no such step; its last one is {}", options.replay_step,
        log->path(), log->rows() == 0 ? "none" : log->text(log->rows() - 1, "step"));
  return log;
}

}  // namespace

ReplayStep::ReplayStep(MpiSession& session, const Options& options)
    : world_(session.world()),
      given_(options),
      options_(writing_nothing(options)),
      wanted_(options.replay_step),
      faults_(made_collectively(world_, [&] { return faults_of(options); })),
      lock_(made_collectively(world_, [&] { return lock_of(options, world_); })),
      log_(made_collectively(world_, [&] { return log_of(options, world_); })),
      store_(options.output_dir + "/checkpoints", options.keep_last, world_),
      found_(store_.find_newest_up_to(wanted_ - 1, check_stored_state)),
      device_(open_compute_device(options, world_, session.host())),
      inputs_(made_collectively(
          world_,
          [&] { return std::make_unique<RunInputs>(options_, world_, RunBegin::kContinued); })),
      costs_(largest_of_all_ranks(made_collectively(world_,
                                                    [&] {
                                                      return lay_out_and_plan(options_, *inputs_,
                                                                              device_.memory(),
                                                                              world_.size());
                                                    }),
                                  world_)),
      compute_(made_collectively(world_, [&] {
        return std::make_unique<StepEngine>(options_, world_, device_, faults_, *inputs_,
                                            costs_.memory);
      })) {
  collectively(world_, [&] {
    CHECK(wanted_ <= inputs_->plan.total_steps, ExitCode::kConfig,
          "--replay_step {}: with these options the run has {} steps", wanted_,
          inputs_->plan.total_steps);
    std::error_code error;
    CHECK(given_.dump_batches == 0 || !std::filesystem::exists(batches_path(), error),
          ExitCode::kConfig, "{} is there already: move it away, or leave out --dump_batches",
          batches_path());
  });
  restore();
  lock_.reset();
}

std::string ReplayStep::batches_path() const {
  return fmt::format("{}/step_{}.batches.h5", given_.output_dir, wanted_);
}

std::vector<std::string> ReplayStep::groups() const {
  std::vector<std::string> names;
  for (const ParamGroup& group : compute_->engine.groups()) names.push_back(group.name);
  return names;
}

// Nothing is restored for the steps from the first on: the weights are those of the models' files.
void ReplayStep::restore() {
  state_ = identify_run(given_, inputs_->model->config, *inputs_->data,
                        frozen_hash(compute_->engine), inputs_->plan.total_steps, world_);
  const RunState stored = stored_run(state_);
  const std::string where = found_ ? found_->directory : given_.output_dir;
  collectively(world_, [&] { check_same_run(stored, state_, where); });
  if (const std::string changed = changes_of_numbers(stored, state_); !changed.empty())
    warn("numbers may differ from those of the log, computed with other options:{}", changed);
  state_.product_choices = stored.product_choices;
  if (!found_) return;
  restore_run(store_, *found_, state_, compute_->engine, inputs_->bad_samples.get());
  restore_scaler(state_, compute_->scaler);
}

// What the run said of itself: in the checkpoint, or where none comes before the step in the first
// one after it, or in options.cfg.
RunState ReplayStep::stored_run(const RunState& now) {
  if (found_) return found_->manifest.state;
  RunState stored = now;
  const std::vector<int64_t> steps = store_.steps();
  log("no checkpoint before step {} can be used ({}): it is repeated from the beginning, with the "
      "weights of the models' files",
      wanted_,
      steps.empty() ? "there is none" : fmt::format("there are: {}", fmt::join(steps, ", ")));
  collectively(world_, [&] {
    if (!steps.empty())
      stored = store_.manifest_of(steps.front()).state;
    else
      stored.options = read_file(given_.output_dir + "/options.cfg", int64_t{1} << 24);
  });
  return stored;
}

void ReplayStep::run() {
  settle_products(options_, world_, device_, state_, compute_->step);
  while (state_.step + 1 < wanted_) {
    const StepReport report = take_step();
    const std::string differences = differences_text(compared(report));
    log("step {}: loss={:.6g}, {}", report.step, report.loss,
        differences.empty() ? "as in the log" : "not as in the log: " + differences);
  }
  tell(take_step());
}

StepReport ReplayStep::take_step() {
  if (state_.next_step == inputs_->plan.steps_per_epoch) {
    ++state_.epoch;
    state_.next_step = 0;
  }
  note_step(state_.step + 1);
  StepReport report = compute_->step.run(state_.epoch, state_.next_step);
  report.step = ++state_.step;
  report.epoch = state_.epoch + 1;
  ++state_.next_step;
  return report;
}

// On rank 0, which has the log; nothing on others.
std::vector<ComparedValue> ReplayStep::compared(const StepReport& report) const {
  if (log_ == nullptr) return {};
  const std::optional<size_t> row = log_->row_of_step(report.step);
  if (!row) return {};
  return compare_with_log(report, *log_, *row, groups(), inputs_->data->names);
}

void ReplayStep::tell(const StepReport& report) {
  std::vector<ComparedValue> values;
  collectively(world_, [&] { values = compared(report); });
  log("step {} (step {} of epoch {}), repeated:", report.step, state_.next_step, report.epoch);
  log_lines(table_text(values));
  const std::string place = report.skipped ? compute_->step.find_non_finite() : "";
  if (report.skipped) log("the step was skipped on all ranks: {}", place);
  tell_samples();
  log("REPLAY step={} equal={} finite={}", report.step, all_equal(values) ? "yes" : "no",
      report.skipped ? "no" : "yes");
}

// The micro-batches are fetched once more: their bad samples do not count again.
void ReplayStep::tell_samples() {
  RecordingSource recording(inputs_->source(), 1, batches_path(), world_);
  std::string mine;
  collectively(world_, [&] {
    mine = samples_text(recording.fetch_step(state_.epoch, state_.next_step - 1), *inputs_->data,
                        state_.epoch, world_.rank());
  });
  log("its samples:");
  for (const std::string& of_rank : world_.all_gather(mine))
    if (!of_rank.empty()) log_lines(of_rank);
  if (given_.dump_batches > 0) recording.write();
}

void replay_step(MpiSession& session, const Options& options, RunStatus& status) {
  collectively(session.world(), [&] { check_paths(Command::kTrain, options); });
  end_job_on_error(session, status, [&] { ReplayStep(session, options).run(); });
}

}  // namespace facet
