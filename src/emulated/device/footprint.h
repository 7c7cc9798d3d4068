// The bytes that a matrix occupies: lines of equal length, a stride apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulated/device/observer.h"

namespace facet::emulated {

struct Footprint {
  const char* begin;
  int64_t line_bytes, stride, lines;

  static Footprint dense(const void* data, size_t bytes) {
    const auto line = static_cast<int64_t>(bytes);
    return {static_cast<const char*>(data), line, line, 1};
  }
  int64_t bytes() const { return (lines - 1) * stride + line_bytes; }

  bool overlaps(const Footprint& other) const {
    if (begin >= other.begin + other.bytes() || other.begin >= begin + bytes()) return false;
    if (stride != other.stride || lines == 1 || other.lines == 1) return true;
    // Column blocks of one buffer interleave without overlapping.
    const int64_t ahead = ((other.begin - begin) % stride + stride) % stride;
    return ahead < line_bytes || ahead + other.line_bytes > stride;
  }

  // Reports an access to the observer as if the running operation were a kernel: it must not read
  // unwritten memory.
  void note(Access access, Site where) const {
    if (!observer()) return;
    const auto touch = [&](int64_t line, int64_t bytes) {
      observer()->thread_access(begin + line * stride, static_cast<size_t>(bytes), access, where);
    };
    if (stride == line_bytes) return touch(0, bytes());
    for (int64_t line = 0; line < lines; ++line) touch(line, line_bytes);
  }
};

}  // namespace facet::emulated
