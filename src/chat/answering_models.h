// The models of --checkpoint_names: what each directory is, and the options that make a model of
// it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "options/options.h"
#include "train/stored_model.h"

namespace facet {

struct AnsweringModel {
  std::string name;  // as given; "": without --checkpoint_names
  Options options;
  std::optional<StoredRun> stored;  // of a checkpoint
};

// In the order of the names; without names the one model of the options. A directory that is no
// model, an adapter without the models that it belongs to, and given options that say otherwise
// than a checkpoint's run or a whole LLaVA are errors: kMissingInput, kUsage, kConfig. Logs what a
// whole LLaVA says of itself. Collective.
std::vector<AnsweringModel> answering_models(Command command, const ParsedOptions& parsed,
                                             Communicator& world);

}  // namespace facet
