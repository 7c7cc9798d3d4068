// Draws from lists.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace facet {

// `count` of 0..n-1 without replacement, in the order in which they are drawn.
inline std::vector<size_t> draw_some(size_t n, size_t count, RandomStream& draws) {
  std::vector<size_t> drawn(n);
  std::iota(drawn.begin(), drawn.end(), size_t{0});
  for (size_t i = 0; i < count; ++i) std::swap(drawn[i], drawn[i + draws.below(n - i)]);
  drawn.resize(count);
  return drawn;
}

// Uniform in least..most.
inline size_t draw_count(size_t least, size_t most, RandomStream& draws) {
  return least + draws.below(most - least + 1);
}

template <typename T>
void shuffle(std::vector<T>& values, RandomStream& draws) {
  for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[draws.below(i)]);
}

}  // namespace facet
