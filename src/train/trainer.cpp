#include "train/trainer.h"

#include <algorithm>
#include <optional>

#include "base/log.h"
#include "data/replay.h"
#include "io/file.h"
#include "kernels/cpu/backend.h"
#include "train/console.h"
#include "train/evaluate.h"
#include "train/loss_log.h"
#include "train/loss_plot.h"
#include "train/recording_source.h"
#include "train/run_lock.h"
#include "train/run_setup.h"
#include "train/threads.h"
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
  Trainer(Session& session, const Options& options, RunStatus& status);
  void run();

 private:
  void take_output_directory();
  void open_model_and_data();
  void allocate();
  void announce();

  void train_epoch(int64_t epoch);
  void tell_traffic(const StepReport& report, int64_t sent) const;
  void log_step(const StepReport& report);
  void stop_if_hopeless(const StepReport& report);
  void write_recording();
  void evaluate_now();
  void export_epoch(int64_t epoch);
  void draw_curve() const;
  void tell_what_was_left_out() const;
  bool finished() const { return status_.step >= plan_.total_steps; }

  Session& session_;
  Communicator& world_;
  const Options& options_;
  RunStatus& status_;

  std::unique_ptr<RunLock> lock_;  // on rank 0, as are the logs and the console
  std::unique_ptr<ModelSetup> model_;
  std::unique_ptr<DataSetup> data_;
  std::unique_ptr<RecordingSource> recording_;  // with --dump_batches
  std::unique_ptr<BadSampleBudget> bad_samples_;
  StepPlan plan_;
  RunCosts costs_;
  std::optional<LrSchedule> schedule_;
  std::optional<CpuBackend> ops_;
  Arena arena_{"activations"};
  std::optional<Engine> engine_;
  std::optional<TrainStep> step_;
  std::unique_ptr<LossLog> loss_log_;
  std::unique_ptr<EvalLog> eval_log_;
  std::unique_ptr<Console> console_;
  std::vector<CurvePoint> step_losses_, eval_losses_;  // of the whole run, for the picture
  int64_t bad_steps_in_a_row_ = 0;
  int64_t last_evaluation_ = -1;          // the step it stood behind
  int64_t unlabelled_micro_batches_ = 0;  // of the whole run
};

Trainer::Trainer(Session& session, const Options& options, RunStatus& status)
    : session_(session), world_(session.world()), options_(options), status_(status) {
  collectively(world_, [&] { check_paths(Command::kTrain, options_); });
  log("resolved options:\n{}", resolved_options(Command::kTrain, options_));
  ops_.emplace(choose_threads(world_, session_.host(), options_.threads));
  collectively(world_, [&] { take_output_directory(); });
  collectively(world_, [&] { open_model_and_data(); });
  collectively(world_, [&] { allocate(); });
  announce();
}

void Trainer::take_output_directory() {
  if (world_.rank() != 0) return;
  make_directories(options_.output_dir);
  lock_ = std::make_unique<RunLock>(options_.output_dir);
  if (!lock_->dead_holder().empty())
    warn("the run that held {} is gone ({}); taking over", options_.output_dir,
         lock_->dead_holder());
  write_file(options_.output_dir + "/options.cfg", resolved_options(Command::kTrain, options_));
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
  if (options_.dump_batches > 0)
    recording_ = std::make_unique<RecordingSource>(*data_->source, options_.dump_batches,
                                                   options_.output_dir + "/batches.h5", world_);
}

void Trainer::allocate() {
  ParamTable& table = model_->table;
  const EngineOptions options = engine_options(options_);
  Engine::lay_out(table, world_.size(), options);
  costs_ = plan_costs(options_, *model_, replay_of(options_, *data_), world_.size());
  engine_.emplace(table, make_groups(options_, table), world_, *ops_, options);
  const LoadReport loaded = load_weights(options_, *model_, engine_->filler());
  log_line(load_report_text(loaded));
  for (const std::string& choice : loaded.differing_choices) warn_line(choice);
  arena_.allocate(costs_.memory.activations);
  const bool micro_batch_means = options_.loss_average == "micro_batch" || options_.visualchat();
  BatchSource& source = recording_ != nullptr ? *recording_ : *data_->source;
  step_.emplace(StepParts{*model_->model, Context{*ops_, arena_, *engine_}, *engine_, *schedule_,
                          world_, source, bad_samples_.get(),
                          static_cast<int64_t>(data_->names.size()),
                          micro_batch_means ? LossAverage::kMicroBatch : LossAverage::kGlobal});
  if (world_.rank() != 0) return;
  loss_log_ =
      std::make_unique<LossLog>(options_.output_dir, names_of(engine_->groups()), data_->names);
  eval_log_ = std::make_unique<EvalLog>(options_.output_dir, data_->names);
  step_losses_.reserve(static_cast<size_t>(plan_.total_steps));
  console_ = std::make_unique<Console>(plan_.total_steps, options_.steps_per_print,
                                       options_.adam_betas[0], options_.adam_betas[1]);
}

void Trainer::announce() {
  log_line(groups_text(engine_->groups(), model_->table));
  log_line(costs_.memory.text());
  log_line(traffic_text(options_, costs_));
  log_line(plan_.text(options_, world_.size()));
}

void Trainer::run() {
  evaluate_now();
  for (int64_t epoch = 0; epoch < options_.num_train_epochs && !finished(); ++epoch) {
    train_epoch(epoch);
    if (options_.eval_interval == 0 || finished()) evaluate_now();
    collectively(world_, [&] { draw_curve(); });
    export_epoch(epoch + 1);
  }
  tell_what_was_left_out();
}

void Trainer::train_epoch(int64_t epoch) {
  for (int64_t step = 0; step < plan_.steps_per_epoch && !finished(); ++step) {
    const int64_t sent_before = world_.elements_sent();
    StepReport report = step_->run(epoch, step);
    report.step = ++status_.step;
    report.epoch = epoch + 1;
    if (report.step == 1) tell_traffic(report, world_.elements_sent() - sent_before);
    log_step(report);
    write_recording();
    stop_if_hopeless(report);
    if (options_.eval_interval > 0 && report.step % options_.eval_interval == 0) evaluate_now();
  }
}

// The first step shows whether the ranks send what the plan says.
void Trainer::tell_traffic(const StepReport& report, int64_t sent) const {
  if (report.micro_batches != options_.gradient_accumulation_steps || report.skipped) return;
  log("step 1: each rank sent {} elements; planned: {}", sent, costs_.elements_per_step);
}

void Trainer::log_step(const StepReport& report) {
  if (world_.rank() != 0) return;
  loss_log_->append(report);
  step_losses_.push_back({static_cast<double>(report.step), report.loss});
  if (report.skipped)
    console_->line(fmt::format("step {}: gradient norm {} (first in {}); skipped on all ranks",
                               report.step, report.grad_norm, report.first_bad_parameter));
  unlabelled_micro_batches_ += report.unlabelled_micro_batches;
  console_->show(report);
}

void Trainer::stop_if_hopeless(const StepReport& report) {
  bad_steps_in_a_row_ = report.skipped ? bad_steps_in_a_row_ + 1 : 0;
  if (bad_steps_in_a_row_ < options_.max_bad_steps) return;
  throw CollectiveError(
      ExitCode::kNumericStop,
      fmt::format("{} steps in a row without a finite gradient (--max_bad_steps), the last in {}; "
                  "try a lower --learning_rate",
                  bad_steps_in_a_row_, report.first_bad_parameter));
}

void Trainer::write_recording() {
  if (recording_ == nullptr || recording_->written()) return;
  if (recording_->complete() || finished()) recording_->write();
}

void Trainer::evaluate_now() {
  const bool known = last_evaluation_ == status_.step;
  if (known || data_->source->num_evaluation_micro_batches() == 0) return;
  last_evaluation_ = status_.step;
  Context context{*ops_, arena_, *engine_};
  EvalReport report = evaluate(*model_->model, context, world_, *data_->source,
                               static_cast<int64_t>(data_->names.size()));
  report.step = status_.step;
  report.epoch = status_.step / plan_.steps_per_epoch;
  collectively(world_, [&] { check_bad_fraction(options_, *data_, report); });
  if (world_.rank() != 0) return;
  eval_log_->append(report);
  eval_losses_.push_back({static_cast<double>(report.step), report.loss});
  console_->line(fmt::format("eval: step={}, loss={:.6g}, samples={}, labelled_tokens={}, {:.1f} s",
                             report.step, report.loss, report.samples, report.labelled_tokens,
                             report.seconds));
  if (const std::string bad = bad_samples_text(data_->names, report.bad_samples); !bad.empty())
    console_->line(fmt::format("eval: bad samples left out: {}", bad));
}

void Trainer::export_epoch(int64_t epoch) {
  const std::string directory = fmt::format("{}/epoch-{}", options_.output_dir, epoch);
  collectively(world_, [&] {
    engine_->read_on_rank_0([&](const OpenUnit& open_unit) {
      export_weights(options_, *model_, directory, open_unit);
    });
  });
  if (console_ != nullptr) console_->line(fmt::format("exported {}", directory));
}

void Trainer::draw_curve() const {
  if (world_.rank() == 0) write_loss_curve(options_.output_dir, step_losses_, eval_losses_);
}

void Trainer::tell_what_was_left_out() const {
  if (console_ == nullptr) return;
  if (unlabelled_micro_batches_ > 0)
    console_->line(fmt::format("micro-batches without a label, which counted as zero: {}",
                               unlabelled_micro_batches_));
  if (bad_samples_ == nullptr) return;
  const std::string bad = bad_samples_text(data_->names, bad_samples_->total_by_dataset());
  if (!bad.empty())
    console_->line(
        fmt::format("bad samples left out in training: {}; {}/bad_samples.rank-*.jsonl "
                    "lists them",
                    bad, options_.output_dir));
}

}  // namespace

void train(Session& session, const Options& options, RunStatus& status) {
  Trainer(session, options, status).run();
}

}  // namespace facet
