#include "base/edit_distance.h"

#include <algorithm>
#include <vector>

namespace facet {

size_t edit_distance(std::string_view a, std::string_view b) {
  constexpr size_t kMost = 100;
  const size_t longer = std::max({a.size(), b.size(), kMost});
  const size_t rest = longer - std::max({std::min(a.size(), b.size()), kMost});
  a = a.substr(0, kMost);
  b = b.substr(0, kMost);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()] + rest;
}

}  // namespace facet
