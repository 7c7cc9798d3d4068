#include "train/log_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "base/check.h"
#include "io/file.h"

namespace facet {

namespace {

constexpr int64_t kMostBytes = int64_t{1} << 32;

std::vector<std::string> split_at(std::string_view line, char separator) {
  std::vector<std::string> cells;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find(separator, begin), line.size());
    cells.emplace_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return cells;
}

}  // namespace

LogTable::LogTable(const std::string& path) : path_(path) {
  const std::string text = read_file(path, kMostBytes);
  int64_t number = 0;
  for (size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    ++number;
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.starts_with('#')) continue;
    std::vector<std::string> cells = split_at(line, ',');
    if (columns_.empty()) {
      columns_ = std::move(cells);
      continue;
    }
    CHECK(cells.size() == columns_.size(), ExitCode::kBadData,
          "{}:{}: {} cells instead of the {} of the header", path, number, cells.size(),
          columns_.size());
    cells_.push_back(std::move(cells));
  }
  CHECK(has("step"), ExitCode::kBadData, "{}: is no log of a run: no column is called step", path);
}

std::optional<size_t> LogTable::find(const std::string& column) const {
  const auto found = std::find(columns_.begin(), columns_.end(), column);
  if (found == columns_.end()) return std::nullopt;
  return static_cast<size_t>(found - columns_.begin());
}

const std::string& LogTable::text(size_t row, const std::string& column) const {
  const std::optional<size_t> at = find(column);
  CHECK(at, ExitCode::kBadData, "{}: no column is called {}", path_, column);
  return cells_.at(row)[*at];
}

double LogTable::number(size_t row, const std::string& column) const {
  const std::string& cell = text(row, column);
  double value = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  CHECK(error == std::errc() && end == cell.data() + cell.size() && std::isfinite(value),
        ExitCode::kBadData, "{}: row {}: {} is '{}'", path_, row + 1, column, cell);
  return value;
}

std::optional<size_t> LogTable::row_of_step(int64_t step) const {
  const std::string wanted = fmt::format("{}", step);
  for (size_t row = rows(); row-- > 0;)
    if (text(row, "step") == wanted) return row;
  return std::nullopt;
}

}  // namespace facet
