// Walks over the elements of a view (shape and strides, as PyTorch has them) in the order in which
// they lie in memory, so that a file is read from its front to its end whichever way a matrix was
// transposed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace facet {

// Whether elements lie row after row without gaps; sizes of 1 have no stride that counts.
inline bool is_contiguous(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

// Calls visit(place, index) for every element: its place in memory from the first element's, and
// its number in the order of the rows. Both in elements; places never descend unless elements of
// the view interleave (as windows that overlap do).
template <typename Visit>
void visit_in_memory_order(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides,
                           const Visit& visit) {
  struct Dimension {
    int64_t stride, size, row_step;
  };
  std::vector<Dimension> dimensions;
  int64_t elements = 1;
  for (size_t i = shape.size(); i-- > 0; elements *= shape[i])
    dimensions.push_back({strides[i], shape[i], elements});
  if (elements == 0) return;
  std::sort(dimensions.begin(), dimensions.end(),
            [](const Dimension& a, const Dimension& b) { return a.stride < b.stride; });
  std::vector<int64_t> at(dimensions.size(), 0);
  int64_t place = 0, index = 0;
  for (;;) {
    visit(place, index);
    size_t d = 0;
    for (; d < at.size(); ++d) {
      place += dimensions[d].stride;
      index += dimensions[d].row_step;
      if (++at[d] < dimensions[d].size) break;
      place -= at[d] * dimensions[d].stride;
      index -= at[d] * dimensions[d].row_step;
      at[d] = 0;
    }
    if (d == at.size()) return;
  }
}

}  // namespace facet
