// Which weights a run does not train: a checkpoint holds their hash instead of the weights.
#pragma once

#include <string>

#include "zero/engine.h"

namespace facet {

// Of names, shapes and bytes of all frozen parameters, 16 hexadecimal digits; the same on any
// number of ranks, at any stage. Collective.
std::string frozen_hash(const ParamTable& table, Engine& engine, Communicator& world);

}  // namespace facet
