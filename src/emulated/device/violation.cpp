#include "emulated/device/violation.h"

#include "base/check.h"
#include "emulated/device/observer.h"
#include "emulated/device/stream.h"

namespace facet::emulated {
namespace {

DescribeThread describe_thread = nullptr;
MemoryObserver* the_observer = nullptr;

}  // namespace

std::string text_of(const Site& site) {
  return fmt::format("{}:{}", site.file_name(), site.line());
}

void set_thread_description(DescribeThread describe) { describe_thread = describe; }

std::string describe_running() {
  const Operation* operation = running_operation();
  if (!operation) return "";
  return fmt::format("{} at {}: ", operation->name, text_of(operation->where)) +
         (describe_thread ? describe_thread() : "");
}

void throw_violation(const std::string& message) {
  throw Error(ExitCode::kInternal, describe_running() + message);
}

MemoryObserver* observer() { return the_observer; }
void set_observer(MemoryObserver* observer) { the_observer = observer; }

}  // namespace facet::emulated
