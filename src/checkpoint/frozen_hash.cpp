#include "checkpoint/frozen_hash.h"

#include <fmt/format.h>

namespace facet {

std::string frozen_hash(Engine& engine) { return fmt::format("{:016x}", engine.frozen_hash()); }

}  // namespace facet
