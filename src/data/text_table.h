// Values by their texts, among them the one with the longest text that another text begins with.
// How long a search takes does not depend on the number of texts, only on how many different
// lengths those have that begin with the same byte.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace facet {

template <typename Value>
class TextTable {
 public:
  // The text isn't empty. Of two values with the same text the first stays.
  void add(std::string_view text, Value& value) {
    if (!values_.emplace(text, &value).second) return;
    std::vector<size_t>& lengths = lengths_[first_byte(text)];
    const auto place =
        std::lower_bound(lengths.begin(), lengths.end(), text.size(), std::greater<>());
    if (place == lengths.end() || *place != text.size()) lengths.insert(place, text.size());
  }

  Value* find(std::string_view text) const {  // nullptr: none
    const auto found = values_.find(text);
    return found == values_.end() ? nullptr : found->second;
  }

  struct Found {
    size_t bytes = 0;        // of its text
    Value* value = nullptr;  // nullptr: none
  };
  Found longest_at(std::string_view text) const {  // of a text that isn't empty
    for (const size_t bytes : lengths_[first_byte(text)])
      if (Value* value = bytes > text.size() ? nullptr : find(text.substr(0, bytes)))
        return {bytes, value};
    return {};
  }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  static size_t first_byte(std::string_view text) { return static_cast<uint8_t>(text[0]); }

  std::unordered_map<std::string, Value*, Hash, std::equal_to<>> values_;
  std::array<std::vector<size_t>, 256> lengths_;  // by first byte, the longest first
};

}  // namespace facet
