// Identifies the weights that a run does not train: a checkpoint holds their hash instead of them.
#pragma once

#include <string>

#include "zero/engine.h"

namespace facet {

// Collective: hash of the names, shapes and values of all frozen parameters as they were filled, 16
// hexadecimal digits; the same on any number of ranks, at any stage, in any precision.
std::string frozen_hash(Engine& engine);

}  // namespace facet
