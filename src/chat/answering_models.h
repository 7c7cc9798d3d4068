// The models of --checkpoint_names: what each directory is, and the options that make a model of
// it.
#pragma once

#include <string>
#include <vector>

#include "options/options.h"

namespace facet {

struct AnsweringModel {
  std::string name;  // as given; "": without --checkpoint_names
  Options options;
};

// In the order of the names; without names the one model of the options. A directory that is no
// model, and an adapter without the models that it belongs to, are errors: kMissingInput, kUsage.
// Adds a line to the notes for what a whole LLaVA says of itself.
std::vector<AnsweringModel> answering_models(const Options& options,
                                             std::vector<std::string>& notes);

}  // namespace facet
