// The columns of OUT/loss_log.csv and OUT/eval_log.csv: what each is called and what it takes from
// a report. docs/running.md lists them for the reader.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "train/step_report.h"

namespace facet {

// A row of a CSV file under construction. Numbers are printed with the fewest digits that read back
// as the same value.
class CsvRow {
 public:
  template <typename T>
  void put(const T& value) {
    separate();
    fmt::format_to(std::back_inserter(text_), "{}", value);
  }
  // Of a quantity that there is not.
  void put_absent() {
    separate();
    text_.append(absent_);
  }
  void write_absent_as(const std::string& text) { absent_ = text; }

  // Appends the row as a line to `lines` and begins the next one. Allocates nothing once both have
  // grown.
  void end(fmt::memory_buffer& lines);

 private:
  void separate() {
    if (!first_) text_.push_back(',');
    first_ = false;
  }

  fmt::memory_buffer text_;
  std::string absent_;
  bool first_ = true;
};

template <typename Report>
struct LogColumn {
  std::string name;
  std::function<void(CsvRow& row, const Report& report)> put;
};
template <typename Report>
using LogColumns = std::vector<LogColumn<Report>>;

// Which start of the run writes the rows, and on what.
struct LogOrigin {
  int64_t start = 1;      // its number, from 1
  double peak_flops = 0;  // operations a second of all ranks at most; 0: not known
};

// All that a new log has, in this order. A continued one has those of its header.
LogColumns<StepReport> loss_columns(const std::vector<std::string>& group_names,
                                    const std::vector<std::string>& dataset_names,
                                    const LogOrigin& origin);
LogColumns<EvalReport> eval_columns(const std::vector<std::string>& dataset_names,
                                    const LogOrigin& origin);

// The names in one line.
template <typename Report>
std::string header_of(const LogColumns<Report>& columns) {
  std::string header;
  for (const LogColumn<Report>& column : columns)
    header += (header.empty() ? "" : ",") + column.name;
  return header;
}

}  // namespace facet
