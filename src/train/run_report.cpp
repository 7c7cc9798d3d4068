#include "train/run_report.h"

#include "base/log.h"
#include "train/feature_cache_setup.h"

namespace facet {

void report_setup(const Run& run) {
  log_line(groups_text(run.compute->engine.groups(), run.inputs->model->table));
  log_line(run.costs.memory.text());
  log_line(traffic_text(run.options, run.costs));
  log_line(run.inputs->plan.text(run.options, run.world.size()));
}

void report_traffic(const Run& run, const StepReport& report) {
  const bool full = report.micro_batches == micro_batches_of_step(run.options);
  if (!full || report.skipped) return;
  log("step {}: a rank sent {} elements at most; planned: {}", report.step,
      run.world.max(report.elements_sent), run.costs.elements_per_step);
}

void report_memory(const Run& run) {
  log("the arenas of a rank held {} bytes at most; planned: {}", run.world.max(Arena::most_held()),
      run.costs.memory.total());
}

void share_features(Run& run) {
  FeatureCache* const cache = run.inputs->data->features.get();
  if (cache != nullptr) share_features(run.world, *cache);
}

void report_features(Run& run) {
  FeatureCache* const cache = run.inputs->data->features.get();
  if (cache == nullptr) return;
  const FeatureCounts now = counts_of_all_ranks(run.world, *cache), before = run.features_told;
  run.features_told = now;
  const int64_t damaged = now.damaged - before.damaged;
  run.logs.line(fmt::format("feature cache: {} images given, {} computed, {} stored{}",
                            now.given - before.given, now.computed - before.computed,
                            bytes_text(now.stored - before.stored),
                            damaged > 0 ? fmt::format(", {} found damaged", damaged) : ""));
}

void report_left_out(Run& run) {
  if (run.state.unlabelled_micro_batches > 0)
    run.logs.line(fmt::format("micro-batches without a label, which counted as zero: {}",
                              run.state.unlabelled_micro_batches));
  if (run.inputs->bad_samples == nullptr) return;
  const std::string bad =
      bad_samples_text(run.inputs->data->names, run.inputs->bad_samples->total_by_dataset());
  if (!bad.empty())
    run.logs.line(
        fmt::format("bad samples left out in training: {}; {}/bad_samples.rank-*.jsonl lists them",
                    bad, run.options.output_dir));
}

}  // namespace facet
