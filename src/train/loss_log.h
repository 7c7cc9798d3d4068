// OUT/loss_log.csv and OUT/eval_log.csv: a first line with the version, a header, then one row a
// step or an evaluation. Numbers are printed with the fewest digits that read back as the same
// value. Rows are flushed one by one, so that the file of a killed run is whole.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "train/step_report.h"

namespace facet {

// A file of rows. A file that is there already is kept beside it as NAME.previous.
class CsvLog {
 public:
  CsvLog(const std::string& path, const std::string& version_line, const std::string& header);
  ~CsvLog();
  CsvLog(const CsvLog&) = delete;
  CsvLog& operator=(const CsvLog&) = delete;

 protected:
  template <typename T>
  void put(const T& value) {
    if (row_.size() > 0) row_.push_back(',');
    fmt::format_to(std::back_inserter(row_), "{}", value);
  }
  void end_row();

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
  fmt::memory_buffer row_;  // reused: a row allocates nothing once it has grown
};

class LossLog : CsvLog {
 public:
  LossLog(const std::string& output_dir, const std::vector<std::string>& group_names,
          const std::vector<std::string>& dataset_names);
  void append(const StepReport& report);
};

class EvalLog : CsvLog {
 public:
  EvalLog(const std::string& output_dir, const std::vector<std::string>& dataset_names);
  void append(const EvalReport& report);
};

}  // namespace facet
