#include "data/json_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace facet {

JsonRecords::JsonRecords(const JsonValue& object) : object_(object) {
  if (!object.is_object()) object.reject("expected an object of records, {id: record, ...}");
  by_id_.resize(static_cast<size_t>(object.size()));
  std::iota(by_id_.begin(), by_id_.end(), 0);
  std::stable_sort(by_id_.begin(), by_id_.end(),
                   [this](int32_t a, int32_t b) { return id(a) < id(b); });
}

std::optional<int64_t> JsonRecords::find(std::string_view id) const {
  const auto found = std::lower_bound(
      by_id_.begin(), by_id_.end(), id,
      [this](int32_t record, std::string_view key) { return this->id(record) < key; });
  if (found == by_id_.end() || this->id(*found) != id) return std::nullopt;
  return *found;
}

// Records of the same id stand side by side, the first of them is the one that find() finds.
bool JsonRecords::occurs_twice(int64_t record) const {
  const auto [first, last] =
      std::equal_range(by_id_.begin(), by_id_.end(), static_cast<int32_t>(record),
                       [this](int32_t a, int32_t b) { return id(a) < id(b); });
  return last - first > 1;
}

JsonValue JsonRecords::at(int64_t record) const {
  const auto [id, value] = object_.member_as_written(record);
  if (occurs_twice(record)) object_.reject(fmt::format("the id {} occurs twice", id));
  return value;
}

}  // namespace facet
