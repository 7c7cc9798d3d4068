// SIGTERM, SIGUSR1 and SIGINT ask a training run to save and stop. The handler only sets a flag;
// the training loop looks at it after every step, when all ranks agree.
//
// No computing thread may handle a signal: oneDNN's matrix products use the stack pointer for other
// purposes, so the frame that the kernel pushes for a handler would overwrite data. A separate
// thread takes the signals.
#pragma once

namespace facet {

// From now on the three signals set the flag. A second SIGINT ends the process at once. The calling
// thread, and threads it creates later, no longer receive them.
void install_stop_signals();

// The name of the signal received ("SIGTERM"), or nullptr.
const char* stop_signal();

}  // namespace facet
