#include "train/run_samples.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/progress.h"
#include "base/timer.h"
#include "train/stop_request.h"
#include "zero/rank_group.h"

namespace facet {

namespace {

// The memory that answers take beyond a step, where it is not kept.
class BorrowedMemory {
 public:
  // Collective; a CollectiveError if a rank cannot have it.
  BorrowedMemory(const Run& run, Arena& arena) : arena_(arena), before_(arena.capacity()) {
    const MemoryPlan& memory = run.costs.memory;
    if (!run.options.release_inference_cache || memory.sampling == 0) return;
    try {
      collectively(run.world, [&] { arena_.resize(memory.activations + memory.sampling); });
    } catch (const CollectiveError&) {
      give_back();
      throw;
    }
  }
  ~BorrowedMemory() { give_back(); }
  BorrowedMemory(const BorrowedMemory&) = delete;
  BorrowedMemory& operator=(const BorrowedMemory&) = delete;

 private:
  void give_back() {
    if (arena_.capacity() != before_) arena_.resize(before_);
  }

  Arena& arena_;
  int64_t before_;
};

// The questions, in turn to the ranks or to their groups.
class Sampling {
 public:
  explicit Sampling(Run& run)
      : run_(run),
        plan_(*run.sampling),
        scope_(run.compute->arena),
        window_(run.answer_group ? std::nullopt : windows(run)),
        hooks_(
            run.world, plan_.order, window_ ? &*window_ : nullptr,
            [&run] { give_a_chance_to_stop(run); }, run.answer_group.get()) {
    if (run.answer_group != nullptr) share_model();
  }

  // Of all ranks, in the order of the tests and rounds.
  std::vector<SampleLine> run();

 private:
  std::optional<UnitWindow> windows(Run& run) const;
  void share_model();
  size_t ranks_together() const {
    return run_.answer_group ? static_cast<size_t>(run_.answer_group->size()) : 1;
  }
  std::string answer_mine();
  std::vector<SampledAnswer> answers(size_t test);
  SampleLine line(size_t test, size_t round, SampledAnswer answer) const;

  Run& run_;
  const SamplingPlan& plan_;
  ArenaScope scope_;
  std::optional<UnitWindow> window_;
  PassesTogether hooks_;
  std::optional<RankGroup> shares_;  // with --inference_tp_size
};

std::optional<UnitWindow> Sampling::windows(Run& run) const {
  const bool partitioned = run.options.zero_stage >= 3;
  if (!partitioned) return std::nullopt;
  return std::optional<UnitWindow>(std::in_place, run.compute->engine.values(), plan_.groups,
                                   plan_.elements, run.compute->arena,
                                   run.inputs->model->table.dtype());
}

// Each rank of the group takes its part of the model as it is now.
void Sampling::share_model() {
  shares_.emplace(*run_.answer_group);
  CutModel& cut = *run_.questions->cut();
  cut.take_memory(run_.compute->arena);
  const ArenaScope scope(run_.compute->arena);
  std::optional<UnitWindow> window = windows(run_);
  cut.fill(run_.inputs->model->table, window ? &*window : nullptr, run_.compute->layers);
}

SampleLine Sampling::line(size_t test, size_t round, SampledAnswer answer) const {
  const Questions& questions = *run_.questions;
  const int64_t step = run_.state.step;
  return {.step = step,
          .epoch = (step - 1) / run_.inputs->plan.steps_per_epoch + 1,
          .samples = run_.state.samples_seen,
          .test = questions.name(test),
          .round = static_cast<int64_t>(round),
          .question = questions.rounds(test)[round],
          .answer = std::move(answer)};
}

std::vector<SampledAnswer> Sampling::answers(size_t test) {
  Context context{run_.compute->layers, run_.compute->arena, hooks_, compute_dtype(run_.options)};
  if (shares_) context.group = &*shares_;
  std::vector<SampledAnswer> answers;
  try {
    hooks_.converse([&] {
      run_.faults.at("sample", run_.world.rank(), run_.state.step);
      answers = run_.questions->answers(context, test);
    });
  } catch (const ConversationError& error) {
    const SampledAnswer none{.stop_reason = "error", .error = error.what()};
    answers.assign(run_.questions->rounds(test).size(), none);
  }
  return answers;
}

// The ranks of a group have the same answers, and its first one tells them.
std::string Sampling::answer_mine() {
  std::string lines;
  const size_t together = ranks_together();
  const auto rank = static_cast<size_t>(run_.world.rank());
  const size_t groups = static_cast<size_t>(run_.world.size()) / together;
  for (size_t test = rank / together; test < run_.questions->tests(); test += groups) {
    std::vector<SampledAnswer> of_test = answers(test);
    if (rank % together != 0) continue;
    for (size_t round = 0; round < of_test.size(); ++round)
      lines += line_of(line(test, round, std::move(of_test[round])));
  }
  hooks_.finish();
  return lines;
}

std::vector<SampleLine> Sampling::run() {
  const std::vector<std::string> of_ranks = run_.world.all_gather(answer_mine());
  const size_t together = ranks_together();
  std::vector<std::vector<SampleLine>> lines;
  for (const std::string& text : of_ranks)
    lines.push_back(sample_lines_of(text, "the answers of a rank"));
  std::vector<SampleLine> all;
  std::vector<size_t> taken(lines.size());
  for (size_t test = 0; test < run_.questions->tests(); ++test) {
    const size_t rank = test % (lines.size() / together) * together;
    for (size_t round = 0; round < run_.questions->rounds(test).size(); ++round)
      all.push_back(std::move(lines[rank][taken[rank]++]));
  }
  return all;
}

}  // namespace

void sample_now(Run& run) {
  if (run.world.broadcast(run.logs.last_sampled_step(), 0) == run.state.step) return;
  const InSection section(Section::kEvaluate);
  const Timer timer;
  std::optional<BorrowedMemory> memory;
  try {
    memory.emplace(run, run.compute->arena);
  } catch (const CollectiveError& error) {
    return warn("--sample_prompts are not answered after step {}: {}", run.state.step,
                error.what());
  }
  const std::vector<SampleLine> samples = Sampling(run).run();
  memory.reset();
  run.local_error.keep([&] { run.logs.append(samples); });
  run.logs.took(Work::kSampling, timer.seconds());
}

}  // namespace facet
