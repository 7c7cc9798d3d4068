// The benchmark's results, a row at a time: an aligned table on stdout and, if a file is named, a
// line of JSON each. Every row is flushed, so that a program that is killed loses none.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace facet::bench {

using Cell = std::variant<std::string, int64_t, double>;
using Row = std::vector<std::pair<std::string, Cell>>;  // name of the column, value

class Report {
 public:
  // Lines are appended to the file; "" for none. Throws Error(kIo) if it cannot be written.
  explicit Report(const std::string& json_path);
  ~Report();
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  // The rows of a section have the same columns; its first one prints their names. The first cell
  // names the row; text in the last cell may have any length.
  void row(const std::string& section, const Row& row);

 private:
  void print(const Row& row, bool names) const;
  void write_json(const std::string& section, const Row& row);

  std::string json_path_;
  std::FILE* json_ = nullptr;
  std::string section_;
};

}  // namespace facet::bench
