#include "emulated/kernels/switch.h"

#include <cstdint>

#if defined(__x86_64__)
// void facet_switch_stacks(void** suspended, void* resumed): the callee-saved registers of the
// System V ABI are kept on the stack while it is suspended, the stack pointer in *suspended.
asm(R"(
  .text
  .p2align 4
  .globl facet_switch_stacks
  .hidden facet_switch_stacks
  .type facet_switch_stacks, @function
facet_switch_stacks:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  retq
  .size facet_switch_stacks, .-facet_switch_stacks
)");
extern "C" void facet_switch_stacks(void** suspended, void* resumed);
#endif

namespace facet::emulated {

#if defined(__x86_64__)
void NativeSwitch::prepare(char* stack, size_t bytes, void (*entry)()) {
  constexpr int kSavedRegisters = 6;
  auto* top = reinterpret_cast<uintptr_t*>(stack + bytes);
  *--top = 0;  // where entry would return to; also leaves the stack aligned as after a call
  *--top = reinterpret_cast<uintptr_t>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = 0;
  stack_pointer_ = top;
}

void NativeSwitch::swap_to(NativeSwitch& next) {
  facet_switch_stacks(&stack_pointer_, next.stack_pointer_);
}
#endif

void PortableSwitch::prepare(char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
}

void PortableSwitch::swap_to(PortableSwitch& next) { swapcontext(&context_, &next.context_); }

}  // namespace facet::emulated
