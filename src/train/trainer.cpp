#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/log.h"
#include "base/progress.h"
#include "base/timer.h"
#include "checkpoint/frozen_hash.h"
#include "data/replay.h"
#include "io/file.h"
#include "job/fault_injection.h"
#include "job/run_lock.h"
#include "job/stop_signals.h"
#include "train/compute_device.h"
#include "train/evaluate.h"
#include "train/poisoning_hooks.h"
#include "train/recording_source.h"
#include "train/resume.h"
#include "train/run_checkpoints.h"
#include "train/run_costs.h"
#include "train/run_logs.h"
#include "train/run_setup.h"
#include "train/section_report.h"
#include "train/train_step.h"

namespace facet {

namespace {

std::string load_report_text(const LoadReport& report) {
  std::string text = report.projection_file.empty()
                         ? "projection and lang_embed start fresh"
                         : fmt::format("projection and lang_embed from {}", report.projection_file);
  return text + fmt::format("; {} rows of added tokens, {} parameters drawn",
                            report.added_token_rows, report.drawn.size());
}

std::vector<std::string> names_of(const std::vector<ParamGroup>& groups) {
  std::vector<std::string> names;
  for (const ParamGroup& group : groups) names.push_back(group.name);
  return names;
}

class Trainer {
 public:
  Trainer(MpiSession& session, const Options& options, RunStatus& status);
  void run();

 private:
  void prepare();
  void run_epochs();
  void take_output_directory();
  void open_model_and_data();
  void allocate();
  void identify();
  void announce();
  void resume();

  void train_epoch();
  void close_epoch();
  void tell_traffic(const StepReport& report, int64_t sent) const;
  void tell_memory() const;
  void count(const StepReport& report);
  void explain_skip(const StepReport& report);
  bool hopeless(const StepReport& report) const;
  void write_recording();
  void evaluate_now();
  void note_best(const EvalReport& report);
  void export_to(const std::string& name);
  void save();
  void stop(SaveSchedule::Wish wish);
  void tell_what_was_left_out();
  bool finished() const { return state_.step >= plan_.total_steps; }
  // The last epoch of a run, or the one cut short by --max_steps, has to be closed too.
  bool work_left() const { return !finished() || state_.closed_step != state_.step; }

  MpiSession& session_;
  Communicator& world_;
  const Options& options_;
  RunStatus& status_;

  std::unique_ptr<RunLock> lock_;  // on rank 0
  std::optional<ComputeDevice> device_;
  std::unique_ptr<ModelSetup> model_;
  std::unique_ptr<DataSetup> data_;
  std::unique_ptr<RecordingSource> recording_;  // with --dump_batches
  std::unique_ptr<BadSampleBudget> bad_samples_;
  StepPlan plan_;
  RunCosts costs_;
  std::optional<LrSchedule> schedule_;
  std::optional<Arena> arena_;
  std::optional<Engine> engine_;
  std::optional<LossScaler> scaler_;      // with fp16
  bool scale_follows_ = false;            // it falls where a step overflows
  std::optional<PoisoningHooks> poison_;  // with --inject nan@grad
  std::optional<TrainStep> step_;
  FaultInjection injection_;
  std::optional<RunCheckpoints> checkpoints_;
  RunState state_;
  bool stopped_ = false;  // saved on request
  RunLogs logs_;
  SectionReport sections_;
};

Trainer::Trainer(MpiSession& session, const Options& options, RunStatus& status)
    : session_(session),
      world_(session.world()),
      options_(options),
      status_(status),
      injection_(FaultInjection::of_run(options.inject)),
      logs_(options, world_.rank()),
      sections_(options, world_, session.host()) {}

void Trainer::prepare() {
  collectively(world_, [&] { check_paths(Command::kTrain, options_); });
  log("resolved options:\n{}", resolved_options(Command::kTrain, options_));
  device_.emplace(open_compute_device(options_, world_, session_.host()));
  collectively(world_, [&] { take_output_directory(); });
  checkpoints_.emplace(options_, world_, injection_, status_);
  collectively(world_, [&] { open_model_and_data(); });
  collectively(world_, [&] { allocate(); });
  identify();
  if (checkpoints_->found()) resume();
  collectively(world_, [&] { logs_.open(state_, names_of(engine_->groups()), data_->names); });
  announce();
}

void Trainer::take_output_directory() {
  if (world_.rank() != 0) return;
  make_directories(options_.output_dir);
  lock_ = std::make_unique<RunLock>(options_.output_dir);
  if (!lock_->dead_holder().empty())
    warn("the run that held {} is gone ({}); taking over", options_.output_dir,
         lock_->dead_holder());
}

void Trainer::open_model_and_data() {
  model_ = declare_model(options_);
  choose_trained(options_, model_->table);
  data_ = open_data(options_, *model_, world_);
  check_data_sets(options_, *data_);
  if (world_.rank() == 0) write_debug_samples(options_, *model_, *data_);
  plan_ = plan_steps(options_, *data_->source);
  schedule_.emplace(make_schedule(options_, plan_));
  if (data_->table != nullptr)
    bad_samples_ = std::make_unique<BadSampleBudget>(
        data_->names, data_->table->num_samples(Split::kTraining), options_.max_bad_fraction);
  if (options_.dump_batches > 0 && checkpoints_->found())
    warn("--dump_batches records from the first step on: not in a continued run");
  if (options_.dump_batches > 0 && !checkpoints_->found())
    recording_ = std::make_unique<RecordingSource>(*data_->source, options_.dump_batches,
                                                   options_.output_dir + "/batches.h5", world_);
}

void Trainer::allocate() {
  ParamTable& table = model_->table;
  const EngineOptions options = engine_options(options_);
  table.place_in(device_->memory());
  Engine::lay_out(table, world_.size(), options);
  costs_ = plan_costs(options_, *model_, replay_of(options_, *data_), world_.size());
  engine_.emplace(table, make_groups(options_, table), world_, device_->plain(), options);
  const LoadReport loaded = load_weights(options_, *model_, engine_->filler());
  log_line(load_report_text(loaded));
  for (const std::string& choice : loaded.differing_choices) warn_line(choice);
  arena_.emplace("activations", costs_.memory.activations, device_->memory());
  device_->allocate_panels(costs_.memory.panels);
  checkpoints_->begin(*engine_);
  if (options.compute_dtype == DType::kF16) scaler_.emplace(scaler_options(options_));
  scale_follows_ = scaler_ && options_.loss_scale == 0;
  const bool micro_batch_means = options_.loss_average == "micro_batch" || options_.visualchat();
  BatchSource& source = recording_ != nullptr ? *recording_ : *data_->source;
  if (injection_.poisons_gradients())
    poison_.emplace(engine_->table(), *engine_, device_->layers(), injection_, world_.rank());
  UnitHooks& hooks = poison_ ? static_cast<UnitHooks&>(*poison_) : *engine_;
  step_.emplace(
      StepParts{.world = world_,
                .source = source,
                .num_datasets = static_cast<int64_t>(data_->names.size()),
                .bad_samples = bad_samples_.get(),
                .model = *model_->model,
                .context = {device_->layers(), *arena_, hooks, options.compute_dtype},
                .loss_average = micro_batch_means ? LossAverage::kMicroBatch : LossAverage::kGlobal,
                .scaler = scaler_ ? &*scaler_ : nullptr,
                .engine = *engine_,
                .schedule = *schedule_,
                .faults = injection_});
}

void Trainer::identify() {
  const RunState now =
      identify_run(options_, *data_, frozen_hash(*engine_), plan_.total_steps, world_);
  if (const FoundCheckpoint* found = checkpoints_->found())
    collectively(world_, [&] { check_same_run(found->manifest.state, now, found->directory); });
  state_ = now;
}

void Trainer::resume() {
  checkpoints_->restore(state_, *engine_, bad_samples_.get());
  if (!scaler_) return;
  if (state_.loss_scaler.scale > 0)
    scaler_->restore(state_.loss_scaler);
  else
    warn("the checkpoint was not trained in fp16 and has no loss scale: it starts at {}",
         scaler_->scale());
}

void Trainer::announce() {
  log_line(groups_text(engine_->groups(), model_->table));
  log_line(costs_.memory.text());
  log_line(traffic_text(options_, costs_));
  log_line(plan_.text(options_, world_.size()));
}

void Trainer::run() {
  try {
    prepare();
    begin_section(Section::kLog);
    run_epochs();
  } catch (const CollectiveError&) {
    if (checkpoints_) checkpoints_->settle_after_error(logs_);
    throw;
  } catch (const std::exception& error) {
    // Before the destructors wait: for a checkpoint that is being written, for a GPU whose
    // collective the other ranks never join.
    end_job(session_, status_, error);
  }
}

void Trainer::run_epochs() {
  if (!work_left()) log("all {} steps are done; nothing to do", state_.step);
  if (state_.step == 0) evaluate_now();
  while (work_left() && !stopped_) {
    train_epoch();
    if (!stopped_) close_epoch();
  }
  if (stopped_) return;
  checkpoints_->settle(logs_);  // the last one
  tell_memory();
  tell_what_was_left_out();
}

// From where the epoch stands to its end, or to the run's.
void Trainer::train_epoch() {
  while (state_.next_step < plan_.steps_per_epoch && !finished()) {
    const int64_t sent_before = world_.elements_sent();
    note_step(state_.step + 1);
    StepReport report = step_->run(state_.epoch, state_.next_step);
    report.step = ++state_.step;
    status_.set_step(report.step);
    report.epoch = state_.epoch + 1;
    ++state_.next_step;
    if (report.step == 1) tell_traffic(report, world_.elements_sent() - sent_before);
    count(report);
    logs_.append(report);
    for (const std::string& line : sections_.after_step(report.step)) logs_.line(line);
    write_recording();
    if (report.skipped) explain_skip(report);
    if (options_.eval_interval > 0 && report.step % options_.eval_interval == 0) evaluate_now();
    injection_.at("step", world_.rank(), report.step);

    const SaveSchedule::Wish wish = checkpoints_->after_step(report.step, logs_);
    const bool epoch_ends = state_.next_step == plan_.steps_per_epoch || finished();
    const bool saves = wish != SaveSchedule::Wish::kNone && !epoch_ends;  // its end saves anyway
    if (saves || SaveSchedule::stops(wish)) save();
    if (SaveSchedule::stops(wish)) return stop(wish);
  }
}

// Evaluation, picture, export and checkpoint behind an epoch's last step.
void Trainer::close_epoch() {
  if (state_.epoch_labelled_tokens > 0)
    logs_.line(
        fmt::format("epoch {}: loss={:.6g} over {} labelled tokens", state_.epoch + 1,
                    state_.epoch_loss_sum / static_cast<double>(state_.epoch_labelled_tokens),
                    state_.epoch_labelled_tokens));
  if (options_.eval_interval == 0 || finished()) evaluate_now();
  collectively(world_, [&] { logs_.draw_curve(); });
  export_to(fmt::format("epoch-{}", state_.epoch + 1));
  state_.closed_step = state_.step;
  if (state_.next_step == plan_.steps_per_epoch) {  // else --max_steps ended the run within it
    ++state_.epoch;
    state_.next_step = 0;
    state_.epoch_loss_sum = 0;
    state_.epoch_labelled_tokens = 0;
  }
  save();
  const SaveSchedule::Wish wish = checkpoints_->after_step(state_.step, logs_);
  if (SaveSchedule::stops(wish) && work_left()) stop(wish);
}

void Trainer::count(const StepReport& report) {
  state_.samples_seen += report.samples;
  state_.skipped_steps += report.skipped;
  state_.bad_steps_in_a_row = report.skipped ? state_.bad_steps_in_a_row + 1 : 0;
  state_.unlabelled_micro_batches += report.unlabelled_micro_batches;
  for (const LossOfDataset& dataset : report.datasets) {
    if (!std::isfinite(dataset.loss_sum)) continue;
    state_.epoch_loss_sum += dataset.loss_sum;
    state_.epoch_labelled_tokens += dataset.labelled_tokens;
  }
}

// The first step shows whether the ranks send what the plan says.
void Trainer::tell_traffic(const StepReport& report, int64_t sent) const {
  if (report.micro_batches != options_.gradient_accumulation_steps || report.skipped) return;
  log("step 1: a rank sent {} elements at most; planned: {}", world_.max(sent),
      costs_.elements_per_step);
}

void Trainer::tell_memory() const {
  log("the arenas of a rank held {} bytes at most; planned: {}", world_.max(Arena::most_held()),
      costs_.memory.total());
}

// The scale of fp16 is expected to overflow, and answers by falling; anything else is looked into.
void Trainer::explain_skip(const StepReport& report) {
  const bool stops = hopeless(report);
  // The environment, where faults may stand, need not be the same on every host.
  const bool poisoned = world_.max(int64_t{injection_.poisons_anybody(report.step)}) != 0;
  if (scale_follows_ && !stops && !poisoned) return;
  const std::string place = fmt::format("step {}: {}", report.step, step_->find_non_finite());
  if (!stops) return logs_.line(place);
  const std::string why =
      scale_follows_ ? fmt::format("an overflow at the smallest loss scale, {}", report.loss_scale)
                     : fmt::format("{} steps in a row without a finite gradient (--max_bad_steps)",
                                   state_.bad_steps_in_a_row);
  throw CollectiveError(
      ExitCode::kNumericStop,
      fmt::format("{}; {}; try a lower --learning_rate, or look at the samples", why, place));
}

bool Trainer::hopeless(const StepReport& report) const {
  return scale_follows_ ? report.scale_exhausted
                        : state_.bad_steps_in_a_row >= options_.max_bad_steps;
}

void Trainer::save() {
  state_.loss_scaler = scaler_ ? scaler_->state() : LossScalerState{};
  checkpoints_->save(state_, *engine_, bad_samples_.get(), logs_);
}

void Trainer::stop(SaveSchedule::Wish wish) {
  checkpoints_->settle(logs_);  // what stops has saved
  stopped_ = true;
  status_.set_code(ExitCode::kSaved);
  const bool signalled = wish == SaveSchedule::Wish::kSaveForSignal;
  logs_.line(fmt::format("stopping at step {} {}; the same command continues", state_.step,
                         signalled ? "for a signal" : "for the time limit"));
}

void Trainer::write_recording() {
  if (recording_ == nullptr || recording_->written()) return;
  if (recording_->complete() || finished()) recording_->write();
}

void Trainer::evaluate_now() {
  const bool known = state_.last_evaluation == state_.step;
  if (known || data_->source->num_evaluation_micro_batches() == 0) return;
  checkpoints_->settle(logs_);  // before a long time without steps
  state_.last_evaluation = state_.step;
  Context context{device_->layers(), *arena_, *engine_, compute_dtype(options_)};
  EvalReport report = evaluate(*model_->model, context, world_, *data_->source,
                               static_cast<int64_t>(data_->names.size()));
  report.step = state_.step;
  report.epoch = state_.step / plan_.steps_per_epoch;
  collectively(world_, [&] { check_bad_fraction(options_, *data_, report); });
  note_best(report);
  logs_.append(report);
}

void Trainer::note_best(const EvalReport& report) {
  if (state_.best_step >= 0 && !(report.loss < state_.best_loss)) return;
  if (!std::isfinite(report.loss)) return;
  state_.best_step = report.step;
  state_.best_loss = report.loss;
  if (options_.keep_best) export_to("best");
}

void Trainer::export_to(const std::string& name) {
  checkpoints_->settle(logs_);
  const InSection section(Section::kSave);
  const std::string directory = fmt::format("{}/{}", options_.output_dir, name);
  collectively(world_, [&] {
    engine_->read_on_rank_0([&](const OpenUnit& open_unit) {
      export_weights(options_, *model_, directory, open_unit);
    });
  });
  logs_.line(fmt::format("exported {}", directory));
}

void Trainer::tell_what_was_left_out() {
  if (state_.unlabelled_micro_batches > 0)
    logs_.line(fmt::format("micro-batches without a label, which counted as zero: {}",
                           state_.unlabelled_micro_batches));
  if (bad_samples_ == nullptr) return;
  const std::string bad = bad_samples_text(data_->names, bad_samples_->total_by_dataset());
  if (!bad.empty())
    logs_.line(
        fmt::format("bad samples left out in training: {}; {}/bad_samples.rank-*.jsonl "
                    "lists them",
                    bad, options_.output_dir));
}

}  // namespace

void train(MpiSession& session, const Options& options, RunStatus& status) {
  install_stop_signals();  // one that comes while the model is loaded is obeyed behind the first
                           // step
  Trainer(session, options, status).run();
}

}  // namespace facet
