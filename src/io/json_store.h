// How json.h stores a document: the nodes and texts that the parser (json_parser.cpp) writes and
// the views (json.cpp) read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"

namespace facet::detail {

// Below this many members a linear search is faster than a sorted table.
constexpr uint32_t kManyMembers = 24;

struct JsonNode {
  JsonKind kind = JsonKind::kNull;
  uint32_t count = 0;    // bytes of a string, elements of an array, members of an object
  uint64_t payload = 0;  // bits of a number, begin in the text pool, first child
};
static_assert(sizeof(JsonNode) == 16);

// A key that stands in its object a second time, or a third.
struct JsonDuplicate {
  uint64_t first_child = 0;  // of the object
  uint32_t member = 0;
  int64_t line = 0, column = 0;  // of the key in the text, from 1
};

// The children of an array are contiguous in `nodes`; those of an object alternate between key and
// value. A container is stored after its children, so every subtree precedes its root and the root
// of the document is the last node.
struct JsonStore {
  std::string name;
  ExitCode code = ExitCode::kBadData;
  std::vector<JsonNode> nodes;
  std::string text;
  // For objects with many members: member indices sorted by key, found by the first child.
  std::vector<std::pair<uint64_t, std::vector<uint32_t>>> sorted_members;
  std::vector<JsonDuplicate> duplicates;  // by first_child

  const JsonNode& node(int64_t index) const { return nodes[static_cast<size_t>(index)]; }
  std::string_view string_of(const JsonNode& node) const {
    return std::string_view(text).substr(node.payload, node.count);
  }
  std::string_view key_of(const JsonNode& object, int64_t member) const {
    return string_of(nodes[object.payload + 2 * static_cast<uint64_t>(member)]);
  }
  const std::vector<uint32_t>* sorted_of(const JsonNode& object) const;
  int64_t find_member(const JsonNode& object, std::string_view key) const;  // -1: none
  std::string path_to(int64_t index) const;
  // The first duplicate in an object: of this key, or of any. nullptr: none.
  const JsonDuplicate* duplicate_of(const JsonNode& object, std::string_view key) const;
  const JsonDuplicate* any_duplicate(const JsonNode& object) const;
  std::string words_for(const JsonNode& object, const JsonDuplicate& duplicate) const;
};

// Throws Error(code) with line and column if the text is not JSON.
std::unique_ptr<JsonStore> parse_json(std::string_view text, const std::string& name,
                                      ExitCode code);
// Strings hold bytes that are not UTF-8 unchanged.
std::unique_ptr<JsonStore> parse_json_any_bytes(std::string_view text, const std::string& name);

}  // namespace facet::detail
