// What inspect says of a model's directory of either kind: its lines, its weights, what is missing.
#pragma once

#include <string>
#include <vector>

#include "io/llava_directory.h"
#include "nn/param_table.h"

namespace facet {

// "heads       12 of width 64"
void say(const char* what, const std::string& value);

// A part of the model, and the parameters that it should have.
struct PartToCheck {
  LlavaPart part;
  const ParamTable& table;
};
// Compares them with the files of the directory, which holds that part alone or a whole LLaVA, and
// says where they are complete. Adds to `missing` what is not there, has another shape, or a type
// that training does not read. No weights are read.
void check_weights(const std::string& directory, const std::vector<PartToCheck>& parts,
                   std::vector<std::string>& missing);

// Says what is missing; returns the exit code.
int end_of_inspection(const std::vector<std::string>& missing);

}  // namespace facet
