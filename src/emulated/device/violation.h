// What the emulation throws if a rule of CUDA is broken: Error(kInternal) whose message begins with
// the stream operation, the block and the thread that broke it.
//
//   launched at kernels/cuda/rope.cu:61: block (0,0,0) thread (5,0,0): kernels/cuda/rope.cu:33: ...
#pragma once

#include <fmt/core.h>

#include <string>

#include "emulated/device/site.h"

namespace facet::emulated {

std::string text_of(const Site& site);  // "kernels/cuda/rope.cu:33"

// What is running now, "" for the host; src/emulated/kernels adds block and thread.
using DescribeThread = std::string (*)();
void set_thread_description(DescribeThread describe);
std::string describe_running();

[[noreturn]] void throw_violation(const std::string& message);

template <typename... Args>
[[noreturn]] void violation(const Site& where, fmt::format_string<Args...> format, Args&&... args) {
  throw_violation(text_of(where) + ": " + fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace facet::emulated
