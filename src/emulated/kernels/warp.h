// Synchronisation and warp operations under CUDA's names. Each checks its mask, and all lanes of
// the mask must be at the same source location.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulated/device/site.h"

namespace facet::emulated {

int count_barrier(int vote, Site where);
int and_barrier(int vote, Site where);
int or_barrier(int vote, Site where);
void plain_barrier(Site where);

unsigned block_in_cluster();
void sync_cluster(Site where);

void sync_warp(unsigned mask, Site where);
unsigned ballot(unsigned mask, int vote, Site where);
// The lanes whose value equals this lane's.
unsigned match_any(unsigned mask, uint64_t value, Site where);

// By the index of the source lane: given, below, above, exclusive or.
enum class Shuffle : uint8_t { kIndex, kUp, kDown, kXor };
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, Site where);

enum class Reduction : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };
unsigned reduce(Reduction kind, unsigned mask, unsigned value, Site where);
int reduce(Reduction kind, unsigned mask, int value, Site where);

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <typename T>
T shuffle_value(Shuffle kind, unsigned mask, T value, int argument, int width, Site where) {
  const uint64_t bits = shuffle(kind, mask, to_bits(value), argument, width, where);
  T result;
  std::memcpy(&result, &bits, sizeof(T));
  return result;
}

}  // namespace facet::emulated

// Default arguments are evaluated at the kernel's call.
#define FACET_HERE facet::emulated::Site where = facet::emulated::Site::current()

inline void __syncthreads(FACET_HERE) { facet::emulated::plain_barrier(where); }
inline int __syncthreads_count(int vote, FACET_HERE) {
  return facet::emulated::count_barrier(vote, where);
}
inline int __syncthreads_and(int vote, FACET_HERE) {
  return facet::emulated::and_barrier(vote, where);
}
inline int __syncthreads_or(int vote, FACET_HERE) {
  return facet::emulated::or_barrier(vote, where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, FACET_HERE) {
  facet::emulated::sync_warp(mask, where);
}
inline unsigned __ballot_sync(unsigned mask, int vote, FACET_HERE) {
  return facet::emulated::ballot(mask, vote, where);
}
inline int __any_sync(unsigned mask, int vote, FACET_HERE) {
  return facet::emulated::ballot(mask, vote, where) != 0;
}
inline int __all_sync(unsigned mask, int vote, FACET_HERE) {
  return facet::emulated::ballot(mask, vote, where) == mask;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value, FACET_HERE) {
  return facet::emulated::match_any(mask, facet::emulated::to_bits(value), where);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, FACET_HERE) {
  return facet::emulated::shuffle_value(facet::emulated::Shuffle::kIndex, mask, value, lane, width,
                                        where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, FACET_HERE) {
  return facet::emulated::shuffle_value(facet::emulated::Shuffle::kUp, mask, value,
                                        static_cast<int>(delta), width, where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, FACET_HERE) {
  return facet::emulated::shuffle_value(facet::emulated::Shuffle::kDown, mask, value,
                                        static_cast<int>(delta), width, where);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, FACET_HERE) {
  return facet::emulated::shuffle_value(facet::emulated::Shuffle::kXor, mask, value, lanes, width,
                                        where);
}

template <typename T>
T __reduce_add_sync(unsigned mask, T value, FACET_HERE) {
  return facet::emulated::reduce(facet::emulated::Reduction::kAdd, mask, value, where);
}
template <typename T>
T __reduce_min_sync(unsigned mask, T value, FACET_HERE) {
  return facet::emulated::reduce(facet::emulated::Reduction::kMin, mask, value, where);
}
template <typename T>
T __reduce_max_sync(unsigned mask, T value, FACET_HERE) {
  return facet::emulated::reduce(facet::emulated::Reduction::kMax, mask, value, where);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, FACET_HERE) {
  return facet::emulated::reduce(facet::emulated::Reduction::kAnd, mask, value, where);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, FACET_HERE) {
  return facet::emulated::reduce(facet::emulated::Reduction::kOr, mask, value, where);
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, FACET_HERE) {
  return facet::emulated::reduce(facet::emulated::Reduction::kXor, mask, value, where);
}
