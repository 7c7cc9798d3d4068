// Starting threads. A system that refuses one (ulimit -u, the limit of a container) is an error
// like any other, and not a std::system_error that says neither what nor why.
#pragma once

#include <string_view>
#include <system_error>

#include "base/check.h"

namespace facet {

// Returns what `start` returns, which starts a thread: [&] { return std::thread(work); }. `purpose`
// is for the message: "the watchdog". Error(kSystem) if the system refuses the thread.
template <typename Start>
auto start_thread(std::string_view purpose, const Start& start) {
  try {
    return start();
  } catch (const std::system_error& error) {
    fail(ExitCode::kSystem,
         "can't start a thread for {}: {}; raise ulimit -u (processes and threads of a user), or "
         "give fewer --threads and --num_workers",
         purpose, error.what());
  }
}

}  // namespace facet
