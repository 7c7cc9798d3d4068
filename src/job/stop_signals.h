// SIGTERM, SIGUSR1 and SIGINT ask a training run to save and stop. The handler only sets a flag;
// the training loop looks at it after every step, when all ranks agree.
//
// No thread that computes may take a signal: oneDNN's matrix products use the stack pointer for
// other things, and what the system puts under it for a handler lands in somebody's numbers. So a
// thread of its own takes them.
#pragma once

namespace facet {

// From here on the three signals set the flag. A second SIGINT ends the process at once. The
// calling thread, and the threads that it makes from now on, do not take them any more.
void install_stop_signals();

// The signal's name ("SIGTERM"), nullptr when none came.
const char* stop_signal();

}  // namespace facet
