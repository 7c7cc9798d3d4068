#include "data/probe.h"

#include <algorithm>

#include "base/check.h"
#include "base/micro_batch.h"
#include "data/bad_samples.h"

namespace facet {

namespace {

void probe_record(const SampleTable& table, const Dataset& dataset, int64_t record,
                  const SampleBuilder& builder, int64_t max_images, ProbeReport& report) {
  RandomStream draws(table.seed(), "probe", static_cast<uint64_t>(record));
  PreparedSample sample;
  ++report.records;
  try {
    build_checked(builder, dataset.read(record, draws), max_images, sample);
  } catch (const Error& error) {
    if (!means_bad_sample(error)) throw;
    if (report.bad++ > 0) return;
    report.first_reason = error.what();
    report.first_code = error.code();
    return;
  }
  report.tokens += static_cast<int64_t>(sample.token_ids.size());
  report.labelled_tokens += std::count_if(sample.labels.begin(), sample.labels.end(),
                                          [](int32_t label) { return label != kIgnoredLabel; });
  report.images += sample.num_images;
}

}  // namespace

std::vector<ProbeReport> probe_datasets(const SampleTable& table, const SampleBuilder& builder,
                                        int64_t max_images, int64_t max_records) {
  std::vector<ProbeReport> reports;
  for (int64_t d = 0; d < table.num_datasets(); ++d) {
    const Dataset& dataset = table.dataset(d);
    ProbeReport& report = reports.emplace_back();
    report.dataset = dataset.name();
    const int64_t count = std::min(max_records, dataset.num_records());
    for (int64_t i = 0; i < count; ++i)
      probe_record(table, dataset, i * dataset.num_records() / count, builder, max_images, report);
    CHECK(report.bad < report.records, report.first_code,
          "data set {}: none of {} records can be used to learn from; the first one: {}",
          report.dataset, report.records, report.first_reason);
  }
  return reports;
}

}  // namespace facet
