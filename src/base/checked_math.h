// Sizes that come from files and options: their products and sums without wrapping around.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>

namespace facet {

// The product of the sizes; nothing if one of them is negative or the product has no int64_t.
template <typename Sizes>
std::optional<int64_t> checked_product(const Sizes& sizes) {
  int64_t product = 1;
  bool fits = true;
  for (const int64_t size : sizes)  // to the end: a negative size after a zero is refused too
    fits = !__builtin_mul_overflow(product, size, &product) && size >= 0 && fits;
  return fits ? std::optional(product) : std::nullopt;
}
inline std::optional<int64_t> checked_product(std::initializer_list<int64_t> sizes) {
  return checked_product<std::initializer_list<int64_t>>(sizes);
}

// Adds the product of the sizes, or stays at the largest number: for counts that are only shown.
inline void add_saturated(int64_t& count, std::initializer_list<int64_t> sizes) {
  const auto product = checked_product(sizes);
  if (!product || __builtin_add_overflow(count, *product, &count)) count = INT64_MAX;
}

// Whether a range lies inside [0, whole): begin and length are not negative and their sum does not
// wrap around.
constexpr bool lies_within(int64_t begin, int64_t length, int64_t whole) {
  return begin >= 0 && length >= 0 && begin <= whole && length <= whole - begin;
}

}  // namespace facet
