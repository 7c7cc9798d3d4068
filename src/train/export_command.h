// facet export: a model or an adapter from what a run has left, long after it.
#pragma once

#include <string>
#include <vector>

namespace facet {

// words: a run's directory, one of its checkpoints or one of its adapters, then options. Returns
// the exit code; errors have been printed. Needs memory for the largest matrices only: trained
// values are read from the checkpoint, frozen ones from the models' files.
int export_command(const std::vector<std::string>& words);

}  // namespace facet
