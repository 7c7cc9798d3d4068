// Which data sets a run reads: published ones by name, and a user's own files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

struct DatasetChoice {
  std::string name;  // in logs and messages: letters, digits, '_', '-', '.'; unique in a run
  std::string type;  // a published set's name, or the kind of the user's own files
  std::vector<std::string> paths = {};  // of own files
  std::string image_root = {};          // of own files; "": --image_root
  int64_t samples = -1;                 // as DatasetRequest
  int64_t concatenate = 1;
  double weight = 0;
  std::optional<std::string> system_text = {};  // of samples without one of their own
};

// "json": what stands before the colon in json:PATH; "" for the name of a published set.
std::string_view own_kind_of(std::string_view word);

// From the words of --dataset_names. Own files are called by the file's name without its ending and
// with '_' for other characters; behind it _2, _3, ... where that is a published set's name or was
// given before. One file twice is Error(kConfig), a word that names nothing Error(kUsage).
std::vector<DatasetChoice> choose_datasets(const std::vector<std::string>& words);

// Gives own files without a name one, as above. A name that is not safe or occurs twice, and one
// file twice, are Error(kConfig) with `source`, where the choices come from.
void name_datasets(std::vector<DatasetChoice>& choices, const std::string& source);

}  // namespace facet
