// The samples of a step, for people: where each comes from.
#pragma once

#include <span>
#include <string>

#include "base/micro_batch.h"
#include "train/data_setup.h"

namespace facet {

// A line a sample of this rank: "  rank 0, micro-batch 1: sample 17, data set llava, record 12 of
// data/llava/x.json, images a.jpg". Recorded micro-batches have the numbers of samples only. Error
// (kBadData) if a record cannot be read any more.
std::string samples_text(std::span<const MicroBatch> batches, const DataSetup& data, int64_t epoch,
                         int rank);

}  // namespace facet
