// Tries some records of every data set, for --dry_run and for the check at start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "data/order.h"
#include "data/sample_builder.h"

namespace facet {

struct ProbeReport {
  std::string dataset;
  int64_t records = 0;
  int64_t bad = 0;
  int64_t tokens = 0;  // an image placeholder counts as one
  int64_t labelled_tokens = 0;
  int64_t images = 0;
  std::string first_reason;  // of the first bad record
  ExitCode first_code = ExitCode::kOk;
};

// Prepares up to max_records evenly spaced records of each data set. A data set of which all are
// bad (no answer to learn from, say) is an error with the first reason and code.
std::vector<ProbeReport> probe_datasets(const SampleTable& table, const SampleBuilder& builder,
                                        int64_t max_images, int64_t max_records);

}  // namespace facet
