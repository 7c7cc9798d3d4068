// The logs of a run as a continued run finds them: cut back to their length at the checkpoint, read
// for the picture of the losses, and continued. The first byte is that length.
#include "common/target.h"
#include "data/bad_samples.h"
#include "train/loss_log.h"
#include "train/loss_plot.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  if (size == 0) return 0;
  const std::string_view text = fuzz::text_of(data + 1, size - 1);
  return fuzz::may_refuse([&] {
    const std::string log = fuzz::put("loss_log.csv", text);
    const std::string list = fuzz::put("bad_samples.rank-0.jsonl", text);
    const std::vector<CurvePoint> points = read_curve(log);
    loss_curve_svg(points, points);
    LossLog continued(fuzz::scratch(), {"group"}, {"llava"}, data[0]);
    StepReport report;
    report.learning_rates = {0.1};
    report.datasets.resize(1);
    continued.append(report);
    fuzz::require(continued.sync() > 0, "a log without rows");
    BadSampleList::cut_back(list, data[0]);
    fuzz::require(BadSampleList::bytes_of(list) <= data[0], "the list was not cut back");
  });
}
