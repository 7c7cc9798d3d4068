// A mixture of data sets in one file (--data_config):
//   [{"type": "llava", "samples": 5000, "weight": 2},
//    {"type": "json", "name": "mine", "paths": ["a.jsonl", "b.jsonl"], "image_root": "images",
//     "samples": "all", "concatenate": 1, "weight": 1, "system": "Answer briefly."}]
#pragma once

#include <string>
#include <vector>

#include "data/dataset_choice.h"

namespace facet {

// Relative paths are relative to the file's directory. A member that is not above, a type that is
// none, a name that is not safe or occurs twice, weights for some sets only: Error(kConfig) with
// the place.
std::vector<DatasetChoice> read_data_config(const std::string& path);

}  // namespace facet
