#include "job/stop_signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "base/check.h"
#include "base/start_thread.h"

namespace facet {

namespace {

std::atomic<int> received{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler must not lock");

extern "C" void note_signal(int number) {
  if (number == SIGINT && received == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  received = number;
}

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGUSR1, SIGINT}) sigaddset(&signals, number);
  return signals;
}

[[noreturn]] void take_signals() {
  while (true) ::pause();
}

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  const sigset_t signals = stop_signals();
  for (const int number : {SIGTERM, SIGUSR1, SIGINT}) sigaction(number, &action, nullptr);
  // The other thread must be able to take the signals before this one blocks them.
  ASSERT(pthread_sigmask(SIG_UNBLOCK, &signals, nullptr) == 0, "cannot set the signal mask");
  start_thread("signals", [] { return std::thread(take_signals); }).detach();  // for good
  ASSERT(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0, "cannot set the signal mask");
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
