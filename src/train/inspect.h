// facet inspect MODEL: a language model's or vision encoder's family and sizes, and what is missing
// (inspect_model.h, inspect_vision.h).
// facet inspect ADAPTER: its LoRA and what else is in it.
// facet inspect FILE: its tensors, or what it is (inspect_file.h).
// facet inspect CHECKPOINT: what it holds, and whether every byte is as it was written.
// facet inspect CHECKPOINT CHECKPOINT: which of its arrays differ, and by how much.
#pragma once

#include <string>
#include <vector>

namespace facet {

// Takes the words after "inspect"; a run's output directory stands for its newest checkpoint.
// Returns the exit code: that of the error, or 1 when two checkpoints differ. Needs no MPI.
int inspect_command(const std::vector<std::string>& words);

}  // namespace facet
