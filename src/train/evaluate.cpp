#include "train/evaluate.h"

#include "base/timer.h"
#include "comm/session.h"

namespace facet {

EvalReport evaluate(VisionLanguageModel& model, Context& context, Communicator& world,
                    BatchSource& source, int64_t num_datasets) {
  const Timer timer;
  // Of all data sets one behind the other: [loss, labelled tokens, samples].
  std::vector<double> totals(static_cast<size_t>(3 * num_datasets));
  LossSums sums;
  for (int64_t m = 0; m < source.num_evaluation_micro_batches(); ++m) {
    const MicroBatch* batch = nullptr;
    collectively(world, [&] { batch = &source.fetch_evaluation(m); });
    model.evaluate(context, *batch, sums);
    for (size_t b = 0; b < sums.loss.size(); ++b) {
      double* total = &totals[3 * dataset_of(*batch, b, static_cast<size_t>(num_datasets))];
      total[0] += sums.loss[b];
      total[1] += static_cast<double>(sums.labelled[b]);
      total[2] += 1;
    }
  }
  world.all_reduce_sum(totals);

  EvalReport report;
  double loss_sum = 0;
  for (int64_t d = 0; d < num_datasets; ++d) {
    const double* total = &totals[static_cast<size_t>(3 * d)];
    report.datasets.push_back({total[0], static_cast<int64_t>(total[1])});
    loss_sum += total[0];
    report.labelled_tokens += static_cast<int64_t>(total[1]);
    report.samples += static_cast<int64_t>(total[2]);
  }
  report.loss = LossOfDataset{loss_sum, report.labelled_tokens}.mean();
  report.seconds = timer.seconds();
  return report;
}

}  // namespace facet
