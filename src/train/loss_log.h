// OUT/loss_log.csv and OUT/eval_log.csv: a line with the version, a header, then one row per step
// or evaluation. Numbers are printed with the fewest digits that read back as the same value. Every
// row is written at once, so that the file of a killed run is complete; on a full disk it ends with
// the last whole row. A run that resumes from a checkpoint cuts its logs back to their length at
// that time. A file that somebody removes meanwhile begins again, with a warning.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "train/step_report.h"

namespace facet {

// A file of rows.
class CsvLog {
 public:
  // keep_bytes 0 begins a new file; an existing one is kept as NAME.previous. Otherwise the file is
  // cut back to its first keep_bytes bytes and continued; if it is gone or shorter, a new one
  // begins and a warning says so.
  CsvLog(const std::string& path, const std::string& version_line, const std::string& header,
         int64_t keep_bytes);
  ~CsvLog();
  CsvLog(const CsvLog&) = delete;
  CsvLog& operator=(const CsvLog&) = delete;

  // Flushes the rows to the disk. Returns the file's length. A row that could not be written, which
  // was an error then, is tried again; if there is still no room, the file ends before it.
  int64_t sync();
  // Begins the file again if somebody has removed it, as each row does. Error(kIo) if its directory
  // is gone too.
  void find_again();

 protected:
  template <typename T>
  void put(const T& value) {
    if (row_.size() > 0) row_.push_back(',');
    fmt::format_to(std::back_inserter(row_), "{}", value);
  }
  // Error(kIo) if the row, or one before it, cannot be written.
  void end_row();

 private:
  int opened(int flags) const;  // -1 with errno
  void check(bool written) const;
  bool write_rows();

  std::string path_, head_;  // the lines before the first row
  int fd_ = -1;
  int64_t length_ = 0;                // of the file: whole rows
  fmt::memory_buffer row_;            // reused: a row allocates nothing once it has grown
  fmt::memory_buffer rows_to_write_;  // more than one only after a failure
};

class LossLog : CsvLog {
 public:
  LossLog(const std::string& output_dir, const std::vector<std::string>& group_names,
          const std::vector<std::string>& dataset_names, int64_t keep_bytes = 0);
  void append(const StepReport& report);
  using CsvLog::find_again;
  using CsvLog::sync;
};

class EvalLog : CsvLog {
 public:
  EvalLog(const std::string& output_dir, const std::vector<std::string>& dataset_names,
          int64_t keep_bytes = 0);
  void append(const EvalReport& report);
  using CsvLog::find_again;
  using CsvLog::sync;
};

}  // namespace facet
