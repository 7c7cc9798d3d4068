// Whole training steps of the reference configuration.
#include "base/timer.h"
#include "tests/bench/gpu/reference.h"
#include "train/cuda/gpu.h"

namespace facet::bench {
namespace {

struct Length {
  int warm_up = 3, most_steps = 12, by_phase = 3;
  double seconds = 25;  // after which no further step begins, nor one to warm up
};
constexpr Length kShort = {1, 1, 1, 0};

std::string name_of(Mode mode) { return mode == Mode::kMmca ? "step, MMCA" : "step, causal"; }

// Steps as in training: the host does not wait for the GPU between them. A row each, and one for
// the median.
void time_steps(Bench& bench, TrainStep& step, const std::string& section, const Length& length) {
  const Timer all;
  const StepReport* report = nullptr;
  std::vector<double> milliseconds;
  const auto take = [&](const std::string& name) {
    const double begin = all.seconds();
    report = &step.run(0, static_cast<int64_t>(milliseconds.size()));
    milliseconds.push_back((all.seconds() - begin) * 1e3);
    bench.report.row(section + ", one by one",
                     {{"step", name}, {"ms", milliseconds.back()}, {"loss", report->loss}});
  };
  for (int n = 0; n < length.warm_up && all.seconds() < length.seconds; ++n) take("to warm up");
  wait_for_gpu(bench.ops);
  milliseconds.clear();
  do take(std::to_string(milliseconds.size() + 1));
  while (static_cast<int>(milliseconds.size()) < length.most_steps &&
         all.seconds() < length.seconds);

  const double seconds = median(milliseconds) * 1e-3,
               flops = static_cast<double>(report->model_flops);
  bench.report.row(section,
                   {{"median of steps", std::to_string(milliseconds.size())},
                    {"ms", seconds * 1e3},
                    {"tokens/s", static_cast<double>(report->tokens) / seconds},
                    {"TFLOP", flops * 1e-12},
                    {"TFLOP/s", flops / seconds * 1e-12},
                    {"MFU_%", percent(flops / seconds, peak_flops_of_gpu(DType::kBF16))},
                    {"product_%", percent(flops / seconds, bench.rates.product)},
                    {"GiB_in_use", static_cast<double>(device_bytes_in_use()) / (1 << 30)}});
}

// Each phase ends when the GPU has done its work, so that together they take longer than a step.
void time_phases(Bench& bench, TrainStep& step, const std::string& section, const Length& length) {
  constexpr std::pair<const char*, StepPhase> kPhases[] = {{"data", StepPhase::kData},
                                                           {"forward", StepPhase::kForward},
                                                           {"backward, loss", StepPhase::kBackward},
                                                           {"reduce", StepPhase::kReduce},
                                                           {"optimizer", StepPhase::kOptimizer}};
  std::vector<PhaseTimes> times;
  for (int n = 0; n < length.by_phase; ++n) times.push_back(step.run(0, n).phases);
  for (const auto& [name, phase] : kPhases) {
    std::vector<double> milliseconds;
    for (const PhaseTimes& of_step : times) milliseconds.push_back(of_step.seconds(phase) * 1e3);
    bench.report.row(section + ", by phase", {{"phase", name}, {"ms", median(milliseconds)}});
  }
}

}  // namespace

void measure_step(Bench& bench, Communicator& world, Mode mode, int64_t layers) {
  const VlmConfig config = reference_config(bench.scale, mode, layers);
  ReferenceRun run(world, bench.ops, config, reference_batch(config, bench.scale));
  const Length length = bench.scale == Scale::kTiny ? kShort : Length();
  TrainStep plain = run.steps(), by_phase = run.steps([&] { wait_for_gpu(bench.ops); });
  time_steps(bench, plain, name_of(mode), length);
  time_phases(bench, by_phase, name_of(mode), length);
}

}  // namespace facet::bench
