#include "train/inspect_weights.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/missing_tensors.h"
#include "checkpoint/weight_origins.h"
#include "io/tensor_directory.h"

namespace facet {

void say(const char* what, const std::string& value) { log("{:<12}{}", what, value); }

namespace {

// The projection keeps its prefix in files.
std::string name_in_files(const Param& param, LlavaPart part) {
  return part == LlavaPart::kProjection ? param.name : param.name.substr(param.name.find('.') + 1);
}

// Adds what is wrong with the tensors of a part.
void check_part(const std::string& directory, const PartToCheck& part,
                std::vector<std::string>& problems) {
  const TensorDirectory tensors = open_model(directory, part.part);
  std::vector<std::string> absent;
  for (const Param& param : part.table.params()) {
    const std::string name = name_in_files(param, part.part);
    StoredTensor expected;
    expected.shape = param.shape;
    const StoredTensor* stored = tensors.find(name);
    if (stored == nullptr)
      absent.push_back(name);
    else if (stored->shape != param.shape)
      problems.push_back(fmt::format("{} is {}, config.json asks for {}", name,
                                     stored->shape_string(), expected.shape_string()));
    else if (!stored->is_real())
      problems.push_back(fmt::format("{} is {}, not F32, BF16, F16 or F64", name, stored->type));
  }
  // The reason goes first: of a long list only the begin is told.
  if (!absent.empty())
    if (const std::string why = why_missing(absent, tensors.names(), directory); !why.empty())
      problems.push_back(why);
  for (const std::string& name : absent) problems.push_back("tensor " + name);
}

}  // namespace

void check_weights(const std::string& directory, const std::vector<PartToCheck>& parts,
                   std::vector<std::string>& missing) {
  if (!TensorDirectory::is_there(directory))
    return missing.push_back("weights: none are there" + what_lies_there_instead(directory));
  std::vector<std::string> problems;
  for (const PartToCheck& part : parts) check_part(directory, part, problems);
  if (problems.empty())
    say("weights", fmt::format("complete in {}", TensorDirectory(directory).source()));
  missing.insert(missing.end(), problems.begin(), problems.end());
}

int end_of_inspection(const std::vector<std::string>& missing) {
  constexpr size_t kShown = 10;
  for (size_t i = 0; i < std::min(kShown, missing.size()); ++i) say("missing", missing[i]);
  if (missing.size() > kShown) say("", fmt::format("and {} more", missing.size() - kShown));
  return missing.empty() ? 0 : static_cast<int>(ExitCode::kMissingInput);
}

}  // namespace facet
