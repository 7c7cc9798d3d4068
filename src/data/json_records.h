// Records that are the members of a JSON object, {id: record, ...}, in the order of the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace facet {

class JsonRecords {
 public:
  explicit JsonRecords(const JsonValue& object);

  int64_t size() const { return static_cast<int64_t>(by_id_.size()); }
  std::string_view id(int64_t record) const { return object_.member_as_written(record).first; }
  // An id that occurs twice is Error(kBadData): its records are bad.
  JsonValue at(int64_t record) const;
  // The (first) record of this id.
  std::optional<int64_t> find(std::string_view id) const;

 private:
  bool occurs_twice(int64_t record) const;

  JsonValue object_;
  std::vector<int32_t> by_id_;  // all records, sorted by id and then by place
};

}  // namespace facet
