// Tells AddressSanitizer which stack is in use; no-ops in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace facet::emulated {

#if defined(__SANITIZE_ADDRESS__)
inline void leave_stack(void** handle, const void* next_bottom, size_t next_bytes) {
  __sanitizer_start_switch_fiber(handle, next_bottom, next_bytes);
}
inline void arrive_on_stack(void* handle, const void** from_bottom, size_t* from_bytes) {
  __sanitizer_finish_switch_fiber(handle, from_bottom, from_bytes);
}
#else
inline void leave_stack(void**, const void*, size_t) {}
inline void arrive_on_stack(void*, const void**, size_t*) {}
#endif

}  // namespace facet::emulated
