#include "emulated/device/fault.h"

#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "emulated/device/memory.h"
#include "emulated/device/violation.h"

namespace facet::emulated {
namespace {

struct Explanation {
  AddressRange range;
  const char* meaning;
};
std::vector<Explanation>& explanations() {
  static auto* const all = new std::vector<Explanation>;
  return *all;
}

std::string explain_device_address(const void* address) {
  const Allocation* a = find_allocation(address);
  if (!a) return "no allocation is there";
  const auto offset = static_cast<const char*>(address) - a->data;
  std::string text = fmt::format("byte {} of an allocation of {} bytes, ", offset, a->bytes);
  switch (a->state) {
    case Allocation::State::kFreed: return text + "freed at " + text_of(a->where);
    case Allocation::State::kReserved:
      return text + "which no stream has allocated yet, reserved at " + text_of(a->where);
    case Allocation::State::kLive: break;
  }
  text += "made at " + text_of(a->where);
  return device_memory_is_open() ? text : text + "; the host must copy device memory, not touch it";
}

std::string explain(const void* address) {
  if (in_device_range(address))
    return fmt::format("device memory {} was touched: {}", address,
                       explain_device_address(address));
  for (const Explanation& e : explanations())
    if (e.range.contains(address)) return e.meaning;
  return fmt::format("address {} was touched", address);
}

// Deliberately not async-signal-safe: the fault comes from one of this thread's own loads or stores
// in kernel or test code, and the program ends here in any case.
void on_fault(int signal, siginfo_t* info, void*) {
  const std::string message =
      "emulated device: " + describe_running() + explain(info->si_addr) + "\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, message.data(), message.size());
  ::signal(signal, SIG_DFL);  // the access is repeated and kills the program
}

}  // namespace

void explain_faults_in(const void* begin, size_t bytes, const char* meaning) {
  explanations().push_back({{static_cast<const char*>(begin), bytes}, meaning});
}

void install_fault_handler() {
  // On an alternate stack: the fault may be a stack overflow.
  constexpr size_t kStackBytes = 64 * 1024;
  static char* const stack = new char[kStackBytes];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = kStackBytes;
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace facet::emulated
