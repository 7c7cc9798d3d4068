#include "train/run.h"

#include <fmt/format.h>

#include <set>
#include <span>

#include "base/log.h"
#include "checkpoint/frozen_hash.h"
#include "comm/split.h"
#include "io/file.h"
#include "job/stop_signals.h"
#include "train/export_plan.h"
#include "train/progress_bar.h"
#include "train/restored_run.h"
#include "train/resume.h"
#include "train/run_history.h"
#include "train/run_report.h"

namespace facet {

namespace {

// A run that is asked to stop during set-up has nothing to save.
void stop_if_asked(Communicator& world) {
  const auto rank = world.max(stop_signal() != nullptr ? world.rank() : -1);
  if (rank < 0) return;
  throw CollectiveError(
      ExitCode::kSaved,
      fmt::format("rank {} was asked to stop during set-up, before it had anything to save; give "
                  "the same command again",
                  rank));
}

// Runs `make` on every rank and returns its result; an error on one is a CollectiveError on all.
template <typename Make>
auto made_collectively(Communicator& world, const Make& make) {
  stop_if_asked(world);
  decltype(make()) made;
  collectively(world, [&] { made = make(); });
  return made;
}

ComputeDevice check_paths_and_open_device(const Options& options, Communicator& world,
                                          const std::string& host) {
  if (!shows_on_terminal()) set_line_stamps(LineStamps::kTimeOfDay);
  collectively(world, [&] {
    check_paths(Command::kTrain, options);
    check_sources_stay(options);
  });
  return open_compute_device(options, world, host);
}

// A variable that was left set after a test would else be noticed by its effects. It need not be
// the same on all hosts.
std::string tell_faults(const FaultInjection& faults, Communicator& world) {
  std::set<std::string> texts;
  for (const std::string& text : world.all_gather(faults.told()))
    if (!text.empty()) texts.insert(text);
  if (!texts.empty()) warn("faults are planted in this run: {}", fmt::join(texts, "; "));
  return fmt::format("{}", fmt::join(texts, "; "));
}

std::unique_ptr<RunLock> take_output_directory(const Options& options, const Communicator& world,
                                               const RunStatus& status) {
  if (world.rank() != 0) return nullptr;
  make_directories(options.output_dir);
  auto lock = std::make_unique<RunLock>(LockRequest{
      .output_dir = options.output_dir, .on_loss = [&](const std::string& other) {
        status.end_job(
            ExitCode::kConfig,
            fmt::format("{}/run.lock was taken over by another run ({}); this one has been "
                        "taken for dead and must not write there any more",
                        options.output_dir, other));
      }});
  if (!lock->dead_holder().empty())
    warn("the run that held {} is gone ({}); taking over", options.output_dir, lock->dead_holder());
  tidy_output_directory(options.output_dir);  // no other process writes here now
  return lock;
}

std::vector<std::string> names_of(const std::vector<ParamGroup>& groups) {
  std::vector<std::string> names;
  for (const ParamGroup& group : groups) names.push_back(group.name);
  return names;
}

std::vector<RankBinding> tell_binding(Communicator& world, const std::string& host,
                                      const ComputeDevice& device) {
  std::vector<RankBinding> binding = gather_binding(world, host, device);
  log_lines(binding_text(binding));
  return binding;
}

// The functions below take a run of which the members before the one they make are there.

std::unique_ptr<RunInputs> open_inputs(const Run& run) {
  const bool is_new = run.checkpoints->found() == nullptr;
  return std::make_unique<RunInputs>(run.options, run.world,
                                     is_new ? RunBegin::kNew : RunBegin::kContinued);
}

std::unique_ptr<RunInputs> index_files_and_open_inputs(const Run& run) {
  collectively(run.world, [&] { index_files(run.options, run.world); });
  return made_collectively(run.world, [&] { return open_inputs(run); });
}

std::unique_ptr<Questions> open_checked_questions(const Run& run, const OpenQuestions& open) {
  auto questions = questions_of(run.options, *run.inputs->model, run.world.rank(), open);
  if (questions != nullptr) questions->check_images();
  return questions;
}

// Consecutive ranks, which a host has together if it has a multiple of the size.
std::unique_ptr<Communicator> make_answer_group(Run& run) {
  if (run.questions == nullptr || run.questions->cut() == nullptr) return nullptr;
  auto group = split(run.world, static_cast<int>(run.world.rank() / run.options.inference_tp_size));
  connect(run.options, *group, run.device);
  return group;
}

RunCosts plan_costs_of_all_ranks(Run& run) {
  return largest_of_all_ranks(made_collectively(run.world,
                                                [&] {
                                                  return lay_out_and_plan(
                                                      run.options, *run.inputs, run.device.memory(),
                                                      run.world.size(), run.questions.get());
                                                }),
                              run.world);
}

std::optional<SamplingPlan> plan_of_questions(const Run& run) {
  if (run.questions == nullptr) return std::nullopt;
  return plan_sampling(run.options, *run.inputs->model, *run.questions, run.world.size());
}

std::unique_ptr<StepEngine> open_compute(Run& run) {
  auto compute = std::make_unique<StepEngine>(run.options, run.world, run.device, run.faults,
                                              *run.inputs, run.costs.memory);
  run.checkpoints->begin(compute->engine);
  return compute;
}

// Takes everything that the checkpoint holds: the place in the run, weights, moments, counts.
void continue_from_checkpoint(Run& run, RunState& state) {
  run.checkpoints->restore(state, run.compute->engine, run.inputs->bad_samples.get());
  restore_scaler(state, run.compute->scaler);
}

RunState begin_or_continue(Run& run, MpiSession& session) {
  begin_feature_cache(run.options, session, run.device, *run.inputs, run.compute->engine);
  const std::string hash = frozen_hash(run.compute->engine);
  RunState state = identify_run(run.options, run.inputs->model->config, *run.inputs->data, hash,
                                run.inputs->plan.total_steps, run.world);
  if (const FoundCheckpoint* found = run.checkpoints->found()) {
    collectively(run.world,
                 [&] { check_same_run(found->manifest.state, state, found->directory); });
    continue_from_checkpoint(run, state);
  }
  return state;
}

WorkPlan work_plan(const Options& options, const RunInputs& inputs) {
  return {.total_steps = inputs.plan.total_steps,
          .steps_per_epoch = inputs.plan.steps_per_epoch,
          .evaluates = inputs.data->source->num_evaluation_micro_batches() > 0,
          .eval_interval = options.eval_interval,
          .save_interval = options.save_interval,
          .save_minutes = options.save_minutes,
          .export_every = options.export_kind == "none" ? 0 : options.export_every,
          .samples = !options.sample_prompts.empty(),
          .sample_interval = options.sample_interval};
}

// Operations a second that all ranks can do at most; 0 where that is not known of each. Collective.
double peak_of_all_ranks(const Run& run) {
  constexpr double kTera = 1e12;
  const double given = run.options.peak_tflops * kTera;
  const double mine = given > 0 ? given : run.device.facts().peak_flops;
  double sum = 0;
  for (const double each : run.world.all_gather(std::span(&mine, 1))) {
    if (each <= 0) return 0;
    sum += each;
  }
  return sum;
}

LogSubject subject_of_logs(const Run& run, const std::string& host) {
  return {.host = host,
          .group_names = names_of(run.compute->engine.groups()),
          .dataset_names = run.inputs->data->names,
          .plan = work_plan(run.options, *run.inputs),
          .origin = {.start = run.record->start(), .peak_flops = peak_of_all_ranks(run)}};
}

}  // namespace

Run::Run(MpiSession& session, const Options& run_options, RunStatus& run_status,
         const OpenQuestions& open_questions)
    : options(run_options),
      world(session.world()),
      status(run_status),
      faults(made_collectively(world, [&] { return FaultInjection::of_run(options.inject); })),
      planted(tell_faults(faults, world)),
      logs(options, planted, world.rank()),
      sections(options, world, session.host()),
      device(check_paths_and_open_device(options, world, session.host())),
      binding(tell_binding(world, session.host(), device)),
      lock(made_collectively(world, [&] { return take_output_directory(options, world, status); })),
      checkpoints(end_job_on_error(
          session, status,
          [&] { return std::make_unique<RunCheckpoints>(options, world, faults, status); })),
      record(open_record(*this)),
      inputs(index_files_and_open_inputs(*this)),
      questions(
          made_collectively(world, [&] { return open_checked_questions(*this, open_questions); })),
      answer_group(make_answer_group(*this)),
      costs(plan_costs_of_all_ranks(*this)),
      sampling(plan_of_questions(*this)),
      compute(made_collectively(world, [&] { return open_compute(*this); })),
      state(end_job_on_error(session, status, [&] { return begin_or_continue(*this, session); })) {
  end_job_on_error(session, status, [&] {
    const LogSubject subject = subject_of_logs(*this, session.host());
    collectively(world, [&] {
      logs.open(state, subject);
      begin_record(*this);
    });
    report_setup(*this);
  });
}

// A checkpoint that is being written may read the engine's memory: it goes first.
Run::~Run() { checkpoints.reset(); }

}  // namespace facet
