#include "train/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "base/timer.h"
#include "comm/mpi_session.h"
#include "train/non_finite_search.h"

namespace facet {

namespace {

bool all_finite(const LossSums& sums) {
  return std::all_of(sums.loss.begin(), sums.loss.end(),
                     [](double loss) { return std::isfinite(loss); });
}

// Unless this micro-batch has a finite loss on all ranks: computes it again and says where the
// first number is that is not finite, the same text on every rank.
std::string find_non_finite(ModelSetup& setup, Context& context, Communicator& world,
                            const MicroBatch& batch, LossSums& sums) {
  if (world.max(int64_t{!all_finite(sums)}) == 0) return "";
  NonFiniteSearch search(setup.table, context.hooks, context.ops);
  search.look_at_pixels(batch);
  Context watched{context.ops, context.arena, search, context.dtype, context.inputs};
  setup.model->evaluate(watched, batch, sums);
  const std::vector<std::string> found = world.all_gather(
      search.found().empty() ? ""
                             : fmt::format("rank {}, {}; samples {}", world.rank(), search.found(),
                                           fmt::join(batch.sample_ids, " ")));
  for (const std::string& text : found)
    if (!text.empty()) return text;
  return "the loss, though every layer's output is finite";
}

}  // namespace

EvalReport evaluate(ModelSetup& setup, Context& context, Communicator& world, BatchSource& source,
                    int64_t num_datasets, const std::function<void()>& before_batch) {
  const InSection section(Section::kEvaluate);
  const Timer timer;
  // For one data set after the other: [loss, labelled tokens, samples, bad samples].
  constexpr size_t kTotals = 4;
  std::vector<double> totals(kTotals * static_cast<size_t>(num_datasets));
  EvalReport report;
  LossSums sums;
  for (int64_t m = 0; m < source.num_evaluation_micro_batches(); ++m) {
    const MicroBatch* batch = nullptr;
    collectively(world, [&] {
      before_batch();
      batch = &source.fetch_evaluation(m);
    });
    const std::span<const int64_t> bad = source.bad_samples_of_last_fetch();
    for (size_t d = 0; d < bad.size(); ++d) totals[kTotals * d + 3] += static_cast<double>(bad[d]);
    setup.model->evaluate(context, *batch, sums);
    for (size_t b = 0; b < sums.loss.size(); ++b) {
      double* total = &totals[kTotals * dataset_of(*batch, b, static_cast<size_t>(num_datasets))];
      total[0] += sums.loss[b];
      total[1] += static_cast<double>(sums.labelled[b]);
      total[2] += 1;
    }
    if (report.non_finite.empty())
      report.non_finite = find_non_finite(setup, context, world, *batch, sums);
  }
  world.all_reduce_sum(totals);

  double loss_sum = 0;
  for (int64_t d = 0; d < num_datasets; ++d) {
    const double* total = &totals[kTotals * static_cast<size_t>(d)];
    report.datasets.push_back({total[0], static_cast<int64_t>(total[1])});
    loss_sum += total[0];
    report.labelled_tokens += static_cast<int64_t>(total[1]);
    report.samples += static_cast<int64_t>(total[2]);
    report.bad_samples.push_back(static_cast<int64_t>(total[3]));
  }
  report.loss = LossOfDataset{loss_sum, report.labelled_tokens}.mean();
  report.seconds = timer.seconds();
  report.end = std::chrono::system_clock::now();
  return report;
}

}  // namespace facet
