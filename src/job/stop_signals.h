// SIGTERM, SIGUSR1, SIGUSR2, SIGHUP and SIGINT ask a training run to save and stop, from the first
// line of main() on. The handler only sets a flag; the training loop looks at it after every step,
// when all ranks agree. Other commands have nothing to save: the watchdog ends the process.
//
// No computing thread may handle a signal: oneDNN's matrix products use the stack pointer for other
// purposes, so the frame that the kernel pushes for a handler would overwrite data. A separate
// thread takes the signals.
#pragma once

#include <cstdint>

namespace facet {

enum class OnSignal { kSaveAndStop, kEndNow };

// From now on the five signals set the flag. A second SIGINT ends the process at once. A SIGHUP
// that is ignored (nohup) stays so.
void catch_stop_signals(OnSignal meaning);
// Before anything is computed: the calling thread, and threads it creates later, no longer receive
// them.
void take_stop_signals_in_a_thread();
// What they mean may change, as long as nothing was trained: to a dry run, for example.
void set_meaning_of_stop_signals(OnSignal meaning);

// From now on SIGINT is none of them: it is only counted, for a dialogue in which it interrupts
// what is under way.
void count_interrupts();
int64_t interrupts();

// The name of a signal received ("SIGTERM"), or nullptr.
const char* stop_signal();
// The signal by which the process has to end now; 0: none.
int signal_that_ends();
bool sigterm_came();

}  // namespace facet
