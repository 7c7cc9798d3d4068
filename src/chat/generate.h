// facet generate: answers to the questions of a file, with a key/value cache.
#pragma once

#include "comm/mpi_session.h"
#include "options/options.h"

namespace facet {

// Collective. The tests are distributed over the ranks; draws depend only on (seed, test, round).
void generate(MpiSession& session, const ParsedOptions& parsed);

}  // namespace facet
