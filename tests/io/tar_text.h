// Small tar archives for tests.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace facet {

inline std::string padded(std::string content) {
  content.resize((content.size() + 511) / 512 * 512);
  return content;
}

// Sets the checksum of the header block at the begin.
inline std::string with_checksum(std::string block) {
  block.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(block[i]);
  block.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return block;
}

inline std::string tar_header(std::string_view name, size_t bytes, char type = '0',
                              std::string_view prefix = "") {
  std::string block(512, '\0');
  block.replace(0, name.size(), name);
  block.replace(100, 7, "0000644");
  block.replace(124, 11, fmt::format("{:011o}", bytes));
  block[156] = type;
  block.replace(257, 8, std::string_view("ustar\00000", 8));
  block.replace(345, prefix.size(), prefix);
  return with_checksum(block);
}

inline std::string tar_member(std::string_view name, const std::string& content, char type = '0') {
  return tar_header(name, content.size(), type) + padded(content);
}

// "LENGTH KEY=VALUE\n", LENGTH of two digits.
inline std::string pax_record(std::string_view key, std::string_view value) {
  const std::string text = fmt::format(" {}={}\n", key, value);
  const size_t digits = text.size() + 2 > 99 ? 3 : 2;
  return std::to_string(text.size() + digits) + text;
}

inline std::string tar_end() { return std::string(1024, '\0'); }

}  // namespace facet
