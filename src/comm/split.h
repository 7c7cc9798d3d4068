// Communicators of some of a job's ranks.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/communicator.h"

namespace facet {

// The ranks that give the same part (0 or more), in their order; nullptr for one that gives a
// negative part and belongs to none. Collective over `world`.
std::unique_ptr<Communicator> split(const Communicator& world, int part);

}  // namespace facet
