// Switching between stacks, the basis of fibers. A Switch holds what a suspended stack needs to
// resume; swap_to() suspends the running one into *this and resumes another.
#pragma once

#include <ucontext.h>

#include <cstddef>

namespace facet::emulated {

#if defined(__x86_64__)
// Saves six registers and the stack pointer: a few nanoseconds.
class NativeSwitch {
 public:
  // The first swap to it calls entry(), which must not return, on the given stack.
  void prepare(char* stack, size_t bytes, void (*entry)());
  void swap_to(NativeSwitch& next);

 private:
  void* stack_pointer_ = nullptr;
};
#endif

// The same by the C library, for other processors; it also saves signal masks, which costs two
// system calls per switch.
class PortableSwitch {
 public:
  void prepare(char* stack, size_t bytes, void (*entry)());
  void swap_to(PortableSwitch& next);

 private:
  ucontext_t context_;
};

#if defined(__x86_64__)
using Switch = NativeSwitch;
#else
using Switch = PortableSwitch;
#endif

}  // namespace facet::emulated
