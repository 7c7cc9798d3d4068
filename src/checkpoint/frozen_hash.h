// Which weights a run does not train: a checkpoint holds their hash instead of the weights.
#pragma once

#include <string>

#include "zero/engine.h"

namespace facet {

// Of names, shapes and values of all frozen parameters as they were filled, 16 hexadecimal digits;
// the same on any number of ranks, at any stage, in any precision. Collective.
std::string frozen_hash(Engine& engine);

}  // namespace facet
