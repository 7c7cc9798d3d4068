#include "train/stop_signals.h"

#include <csignal>
#include <initializer_list>

namespace facet {

namespace {

volatile std::sig_atomic_t received = 0;

extern "C" void note_signal(int number) {
  if (number == SIGINT && received == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  received = number;
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGTERM, SIGUSR1, SIGINT}) sigaction(number, &action, nullptr);
}

const char* stop_signal() {
  switch (received) {
    case SIGTERM: return "SIGTERM";
    case SIGUSR1: return "SIGUSR1";
    case SIGINT: return "SIGINT";
    default: return nullptr;
  }
}

}  // namespace facet
