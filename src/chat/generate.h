// facet generate: answers to the questions of a file, with a key/value cache.
#pragma once

#include "comm/mpi_session.h"
#include "options/options.h"

namespace facet {

// The tests are dealt out to the ranks; draws depend on (seed, test, round) only. Collective.
void generate(MpiSession& session, const Options& options);

}  // namespace facet
