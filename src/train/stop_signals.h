// SIGTERM, SIGUSR1 and SIGINT ask a training run to save and stop. The handler only sets a flag;
// the trainer looks at it behind every step, when all ranks agree.
#pragma once

namespace facet {

// From here on the three signals set the flag. A second SIGINT ends the process at once.
void install_stop_signals();

// The signal's name ("SIGTERM"), nullptr when none came.
const char* stop_signal();

}  // namespace facet
