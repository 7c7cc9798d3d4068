#include "train/evaluate.h"

#include "base/progress.h"
#include "base/timer.h"
#include "comm/mpi_session.h"

namespace facet {

EvalReport evaluate(VisionLanguageModel& model, Context& context, Communicator& world,
                    BatchSource& source, int64_t num_datasets,
                    const std::function<void()>& before_batch) {
  const InSection section(Section::kEvaluate);
  const Timer timer;
  // For one data set after the other: [loss, labelled tokens, samples, bad samples].
  constexpr size_t kTotals = 4;
  std::vector<double> totals(kTotals * static_cast<size_t>(num_datasets));
  LossSums sums;
  for (int64_t m = 0; m < source.num_evaluation_micro_batches(); ++m) {
    const MicroBatch* batch = nullptr;
    collectively(world, [&] {
      before_batch();
      batch = &source.fetch_evaluation(m);
    });
    const std::span<const int64_t> bad = source.bad_samples_of_last_fetch();
    for (size_t d = 0; d < bad.size(); ++d) totals[kTotals * d + 3] += static_cast<double>(bad[d]);
    model.evaluate(context, *batch, sums);
    for (size_t b = 0; b < sums.loss.size(); ++b) {
      double* total = &totals[kTotals * dataset_of(*batch, b, static_cast<size_t>(num_datasets))];
      total[0] += sums.loss[b];
      total[1] += static_cast<double>(sums.labelled[b]);
      total[2] += 1;
    }
  }
  world.all_reduce_sum(totals);

  EvalReport report;
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
  return report;
}

}  // namespace facet
