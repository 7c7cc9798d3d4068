// A log of a run, read back: loss_log.csv or eval_log.csv of any version, by the names of its
// columns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace facet {

class LogTable {
 public:
  // A file that is not there: Error(kMissingInput). One without a header, or with a row that has
  // not as many cells: Error(kBadData). A last row without an end, of a run that was killed while
  // it wrote, does not count.
  explicit LogTable(const std::string& path);

  const std::string& path() const { return path_; }
  size_t rows() const { return cells_.size(); }
  const std::vector<std::string>& columns() const { return columns_; }
  bool has(const std::string& column) const { return find(column).has_value(); }

  // Error(kBadData) if there is no such column, or the cell is no number that is finite.
  const std::string& text(size_t row, const std::string& column) const;
  double number(size_t row, const std::string& column) const;

  // The row of a training step (from 1).
  std::optional<size_t> row_of_step(int64_t step) const;

 private:
  std::optional<size_t> find(const std::string& column) const;

  std::string path_;
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> cells_;  // by row
};

}  // namespace facet
