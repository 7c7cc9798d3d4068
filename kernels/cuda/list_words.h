// Work lists that are copied to the device as one array of words: sections of plain structs of
// int32_t, one after the other.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace facet::cuda {

inline int32_t to_int(int64_t n) { return static_cast<int32_t>(n); }

// Appends a section. Returns where it begins.
template <typename T>
int32_t append(std::vector<int32_t>& words, const std::vector<T>& items) {
  const size_t begin = words.size(), count = items.size() * sizeof(T) / sizeof(int32_t);
  words.resize(begin + count);
  if (count > 0) std::memcpy(words.data() + begin, items.data(), count * sizeof(int32_t));
  return to_int(static_cast<int64_t>(begin));
}

}  // namespace facet::cuda
