// Accesses that the emulation makes on behalf of a kernel: checked for alignment, and reported to
// the race check if it is linked in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/observer.h"
#include "emulated/device/site.h"

// Reported to the race check once, by the wrapper, and not again by the compiler.
#define FACET_NOT_RACE_CHECKED __attribute__((no_sanitize("thread")))

namespace facet::emulated {

[[noreturn]] void misaligned(const void* p, size_t alignment, const char* what, Site where);

FACET_NOT_RACE_CHECKED inline void require_alignment(const void* p, size_t alignment,
                                                     const char* what, Site where) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0) misaligned(p, alignment, what, where);
}

void note_access(const void* p, size_t bytes, Access access, Site where);

}  // namespace facet::emulated
