#include "train/measured_speed.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/check.h"
#include "train/log_table.h"
#include "train/model_setup.h"
#include "train/run_costs.h"
#include "train/run_setup.h"

namespace facet {

namespace {

// Sums over the steps that count.
struct Totals {
  int64_t steps = 0, ranks = 0;
  double seconds = 0, samples = 0, tokens = 0, micro_batches = 0;
  double model_flops = 0;  // of all ranks, where the log has them

  double tokens_a_sample() const { return tokens / samples; }
};

bool begins_a_start(const LogTable& log, size_t row) {
  if (row == 0) return true;
  return log.has("start") && log.text(row, "start") != log.text(row - 1, "start");
}

void add_row(const LogTable& log, size_t row, const Options& options, Totals& totals) {
  const double samples = log.number(row, "samples");
  const double micro_batches = log.number(row, "micro_batches");
  const double of_rank =
      options.by_tokens()
          ? static_cast<double>(options.samples_of_rank())
          : micro_batches * static_cast<double>(options.per_device_train_batch_size);
  CHECK(of_rank > 0, ExitCode::kBadData, "{}: row {}: no micro-batches", log.path(), row + 1);
  ++totals.steps;
  totals.ranks = std::max(totals.ranks, static_cast<int64_t>(std::ceil(samples / of_rank)));
  totals.seconds += log.number(row, "seconds");
  totals.samples += samples;
  totals.tokens += log.number(row, "tokens");
  totals.micro_batches += micro_batches;
  if (log.has("model_flops")) totals.model_flops += log.number(row, "model_flops");
}

Totals totals_of(const LogTable& log, const Options& options) {
  Totals totals;
  for (size_t row = 0; row < log.rows(); ++row)
    if (!begins_a_start(log, row)) add_row(log, row, options, totals);
  CHECK(totals.seconds > 0 && totals.samples > 0, ExitCode::kBadData,
        "{}: has no steps to measure; the first of each start does not count, so it takes two",
        log.path());
  return totals;
}

// A sample as long as the run's average one.
Options with_average_sample(Options run, const Options& plan, const Totals& totals,
                            int64_t image_tokens) {
  const auto length = static_cast<int64_t>(std::llround(totals.tokens_a_sample()));
  const int64_t most = std::max<int64_t>(length - 1, 0) / image_tokens;
  run.average_images = std::min(plan.average_text_tokens > 0 ? plan.average_images : 1, most);
  run.average_text_tokens = std::max<int64_t>(length - run.average_images * image_tokens, 1);
  return run;
}

struct Counted {
  double flops = 0;  // of a rank, over all steps
  std::string how;
};

Counted count_for_average_sample(const Options& options, const Options& plan,
                                 const Totals& totals) {
  check_paths(Command::kPlan, options);
  const std::unique_ptr<ModelSetup> model = declare_model(options, MissingTokenizer::kAssume);
  choose_trained(options, model->table);
  Engine::lay_out(model->table, static_cast<int>(totals.ranks), engine_options(options),
                  ParamTable::Memory::kMeasureOnly);
  const Options average = with_average_sample(options, plan, totals, model->config.image_tokens());
  const StepOperations full = plan_operations(average, *model);
  const double of_sample =
      static_cast<double>(full.flops) / static_cast<double>(options.samples_of_rank());
  return {of_sample * totals.samples / static_cast<double>(totals.ranks),
          fmt::format("counted by plan for its average sample: {} tokens, {} images",
                      full.counted.length, full.counted.images)};
}

Counted count(const LogTable& log, const Options& options, const Options& plan,
              const Totals& totals) {
  if (!log.has("model_flops")) return count_for_average_sample(options, plan, totals);
  CHECK(totals.model_flops > 0, ExitCode::kBadData, "{}: model_flops is 0 in every row",
        log.path());
  return {totals.model_flops / static_cast<double>(totals.ranks), "from its column model_flops"};
}

std::string device_text(const Options& options) {
  return fmt::format("--device {} --precision {}", options.device, options.precision);
}

}  // namespace

MeasuredSpeed measured_speed(const Options& plan) {
  const std::string& run = plan.measured;
  const std::string config = run + "/options.cfg";
  std::error_code error;
  CHECK(std::filesystem::exists(config, error), ExitCode::kMissingInput,
        "--measured {}: is no output directory of a run, as it has no options.cfg", run);
  const Options options = parse_options(Command::kPlan, {"--config", config}, 1).options;
  const LogTable log(run + "/loss_log.csv");
  const Totals totals = totals_of(log, options);
  const Counted counted = count(log, options, plan, totals);
  const auto steps = static_cast<double>(totals.steps);
  MeasuredSpeed speed;
  speed.flops_per_second = counted.flops / totals.seconds;
  speed.text = fmt::format(
      "measured: {} steps of {} ({} ranks, {}), on average {:.4g} s, {:.4g} samples of {:.4g} "
      "tokens; a rank computed {:.4g} TFLOP a step ({}), which is {:.4g} TFLOP/s, its waiting for "
      "data and other ranks included",
      totals.steps, run, totals.ranks, device_text(options), totals.seconds / steps,
      totals.samples / steps, totals.tokens_a_sample(), counted.flops / steps * 1e-12, counted.how,
      speed.flops_per_second * 1e-12);
  if (plan.average_text_tokens == 0)
    speed.text += fmt::format(
        "\nnote: the most expensive samples are planned; --average_text_tokens and "
        "--average_images plan average ones, which there had {:.0f} tokens, those of images "
        "included",
        totals.tokens_a_sample());
  if (device_text(options) != device_text(plan))
    speed.text +=
        fmt::format("\nnote: this plan has {}: its speed will be another one", device_text(plan));
  return speed;
}

}  // namespace facet
