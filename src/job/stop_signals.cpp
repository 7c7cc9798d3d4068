#include "job/stop_signals.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <thread>

#include "base/check.h"
#include "base/start_thread.h"

namespace facet {

namespace {

struct StopSignal {
  int number;
  const char* name;
};
constexpr std::array<StopSignal, 5> kStopSignals = {{{SIGTERM, "SIGTERM"},
                                                     {SIGUSR1, "SIGUSR1"},
                                                     {SIGUSR2, "SIGUSR2"},
                                                     {SIGHUP, "SIGHUP"},
                                                     {SIGINT, "SIGINT"}}};

std::atomic<unsigned> received{0};  // a bit for each
std::atomic<OnSignal> on_signal{OnSignal::kEndNow};
std::atomic<bool> counting{false};
std::atomic<int64_t> interrupt_count{0};
static_assert(std::atomic<unsigned>::is_always_lock_free &&
                  std::atomic<int64_t>::is_always_lock_free,
              "a signal handler must not lock");

constexpr unsigned bit(int number) { return 1U << number; }

extern "C" void note_signal(int number) {
  if (number == SIGINT && counting) {
    ++interrupt_count;
    return;
  }
  if (number == SIGINT && (received & bit(SIGINT)) != 0) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  received |= bit(number);
}

[[noreturn]] void take_signals() {
  while (true) ::pause();
}

}  // namespace

void catch_stop_signals(OnSignal meaning) {
  on_signal = meaning;
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const StopSignal& signal : kStopSignals) {
    struct sigaction before {};
    sigaction(signal.number, nullptr, &before);
    if (signal.number == SIGHUP && before.sa_handler == SIG_IGN) continue;
    sigaction(signal.number, &action, nullptr);
  }
}

void take_stop_signals_in_a_thread() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const StopSignal& signal : kStopSignals) sigaddset(&signals, signal.number);
  // The other thread must be able to take the signals before this one blocks them.
  ASSERT(pthread_sigmask(SIG_UNBLOCK, &signals, nullptr) == 0, "cannot set the signal mask");
  start_thread("signals", [] { return std::thread(take_signals); }).detach();  // for good
  ASSERT(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0, "cannot set the signal mask");
}

void set_meaning_of_stop_signals(OnSignal meaning) { on_signal = meaning; }

void count_interrupts() { counting = true; }
int64_t interrupts() { return interrupt_count; }

const char* stop_signal() {
  for (const StopSignal& signal : kStopSignals)
    if ((received & bit(signal.number)) != 0) return signal.name;
  return nullptr;
}

int signal_that_ends() {
  if (on_signal == OnSignal::kSaveAndStop) return 0;
  for (const StopSignal& signal : kStopSignals)
    if ((received & bit(signal.number)) != 0) return signal.number;
  return 0;
}

bool sigterm_came() { return (received & bit(SIGTERM)) != 0; }

}  // namespace facet
