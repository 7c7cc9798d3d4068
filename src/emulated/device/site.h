// A source location: every call that may fail on behalf of a kernel takes one, so that the message
// names the kernel's line and not one of the emulation.
#pragma once

#include <cstring>
#include <source_location>

namespace facet::emulated {

using Site = std::source_location;

inline bool same_site(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

}  // namespace facet::emulated
