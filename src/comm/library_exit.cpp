#include "comm/library_exit.h"

#include <cstdlib>
#include <utility>

#include "base/check.h"

namespace facet {

namespace {

std::function<void()> on_exit;

}  // namespace

LibraryExit::LibraryExit(std::function<void()> end_job) {
  ASSERT(!on_exit, "another end of the job is set");
  on_exit = std::move(end_job);
  std::atexit([] {
    if (const std::function<void()> end = std::exchange(on_exit, nullptr)) end();
  });
}

LibraryExit::~LibraryExit() { expect(); }

void LibraryExit::expect() { on_exit = nullptr; }

}  // namespace facet
