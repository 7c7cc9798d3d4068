// Atomic operations under CUDA's names; they return the old value. Fibers are not preempted, so
// plain reads and writes suffice; the race check learns that they were atomic.
#pragma once

#include <cstdint>

#include "emulated/kernels/access.h"
#include "emulated/kernels/warp.h"

namespace facet::emulated {

template <typename T, typename Update>
FACET_NOT_RACE_CHECKED T update_atomically(T* p, const Update& update, Site where) {
  require_alignment(p, sizeof(T), "an atomic operation", where);
  note_access(p, sizeof(T), Access::kAtomic, where);
  const T old = *p;
  *p = update(old);
  return old;
}

// Signed sums wrap, as CUDA's do.
template <typename T>
T wrapping_sum(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

}  // namespace facet::emulated

// T is that of the pointer alone, so that the value converts as in CUDA's overloads.
template <typename T>
T atomicAdd(T* p, std::type_identity_t<T> value, FACET_HERE) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, int> ||
                    std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>,
                "CUDA has no such atomicAdd");
  return facet::emulated::update_atomically(
      p, [=](T old) { return facet::emulated::wrapping_sum(old, value); }, where);
}
template <typename T>
T atomicMax(T* p, std::type_identity_t<T> value, FACET_HERE) {
  static_assert(std::is_integral_v<T> && sizeof(T) >= 4, "CUDA has no such atomicMax");
  return facet::emulated::update_atomically(
      p, [=](T old) { return old < value ? value : old; }, where);
}
template <typename T>
T atomicMin(T* p, std::type_identity_t<T> value, FACET_HERE) {
  static_assert(std::is_integral_v<T> && sizeof(T) >= 4, "CUDA has no such atomicMin");
  return facet::emulated::update_atomically(
      p, [=](T old) { return value < old ? value : old; }, where);
}
template <typename T>
T atomicExch(T* p, std::type_identity_t<T> value, FACET_HERE) {
  static_assert(sizeof(T) >= 4, "CUDA has no such atomicExch");
  return facet::emulated::update_atomically(
      p, [=](T) { return value; }, where);
}
template <typename T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value, FACET_HERE) {
  static_assert(std::is_integral_v<T> && sizeof(T) >= 4, "CUDA has no such atomicCAS");
  return facet::emulated::update_atomically(
      p, [=](T old) { return old == expected ? value : old; }, where);
}
