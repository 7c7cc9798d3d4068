#include "zero/value_hash.h"

#include <bit>

#include "base/rng.h"

namespace facet {
namespace {

// Every bit of the word affects every bit of the result: two rounds of a multiplication by an odd
// number, which carries upwards, and a shift, which carries downwards.
constexpr uint64_t mixed(uint64_t word) {
  constexpr uint64_t kFirst = 0xd6e8feb86659fd93, kSecond = 0xa0761d6478bd642f;
  word = (word ^ (word >> 32)) * kFirst;
  word = (word ^ (word >> 29)) * kSecond;
  return word ^ (word >> 32);
}

}  // namespace

uint64_t value_hash(const Param& param, int64_t begin, const float* values, int64_t count) {
  constexpr uint64_t kPlaces = 0x9e3779b97f4a7c15;  // odd: no two indices get the same number
  uint64_t seed = hash_name(param.name);
  for (const int64_t size : param.shape) seed = mixed(seed + static_cast<uint64_t>(size));
  uint64_t sum = 0;
#pragma omp parallel for schedule(static) reduction(+ : sum) if (count > 65536)
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t place = seed + static_cast<uint64_t>(begin + i) * kPlaces;
    sum += mixed(mixed(place) ^ std::bit_cast<uint32_t>(values[i]));
  }
  return sum;
}

}  // namespace facet
