// facet chat: a conversation with a model on a terminal.
#pragma once

#include "comm/mpi_session.h"
#include "options/options.h"

namespace facet {

// Until the input of rank 0 ends or says so. Several ranks hold the model together.
void chat(MpiSession& session, const ParsedOptions& parsed);

}  // namespace facet
