// facet generate: answers to the questions of a file, with a key/value cache.
#pragma once

#include "comm/session.h"
#include "train/options.h"

namespace facet {

// The tests are dealt out to the ranks; draws depend on (seed, test, round) only. Collective.
void generate(Session& session, const Options& options);

}  // namespace facet
