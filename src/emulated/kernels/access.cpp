#include "emulated/kernels/access.h"

#include "emulated/device/violation.h"

namespace facet::emulated {

void misaligned(const void* p, size_t alignment, const char* what, Site where) {
  violation(where, "{} is misaligned: address {} is no multiple of {}", what, p, alignment);
}

void note_access(const void* p, size_t bytes, Access access, Site where) {
  if (observer() && bytes > 0) observer()->thread_access(p, bytes, access, where);
}

}  // namespace facet::emulated
