// facet chat: a conversation with a model on a terminal.
#pragma once

#include "comm/mpi_session.h"
#include "options/options.h"

namespace facet {

// Until the input ends or says so. On one rank only: Error(kConfig).
void chat(MpiSession& session, const Options& options);

}  // namespace facet
