// facet train --dry_run --check_all_samples: whether any record of the data sets is bad, found out
// before the run and not in its middle.
#pragma once

#include "comm/communicator.h"
#include "options/options.h"
#include "train/data_setup.h"

namespace facet {

// Collective: every rank decodes and builds its share of all records. Shows how far it is, lists
// all bad records, with --output_dir also in OUT/bad_records.jsonl, and then throws
// CollectiveError(kBadData).
void check_all_samples(const Options& options, const DataSetup& data, Communicator& world);

}  // namespace facet
