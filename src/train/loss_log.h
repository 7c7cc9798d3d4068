// OUT/loss_log.csv and OUT/eval_log.csv: a line with the version, a header, then one row per step
// or evaluation (log_columns.h). Every row is written at once, so that the file of a killed run is
// complete; on a full disk it ends with the last whole row. A run that resumes from a checkpoint
// cuts its logs back to their length at that time and goes on with the columns that their header
// names: a log of version 1 stays one. A file that somebody removes meanwhile begins again, with a
// warning.
//
// Version 2 has more columns than version 1, and nothing where version 1 has a loss of 0 for a data
// set without labelled tokens.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "train/log_columns.h"

namespace facet {

// The lines before the first row.
struct LogHead {
  std::string version_line;  // "# facet loss log v2"
  std::string header;        // the names of the columns

  std::string text() const { return version_line + "\n" + header + "\n"; }
};

// A file of rows.
class CsvLog {
 public:
  // keep_bytes 0 begins a new file; an existing one is kept as NAME.previous. Otherwise the file is
  // cut back to its first keep_bytes bytes and continued, with the head it has; if it is gone or
  // shorter, or has no head, a new one begins and a warning says so.
  CsvLog(const std::string& path, const LogHead& head, int64_t keep_bytes);
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
  const LogHead& head() const { return head_; }  // of the file
  CsvRow& row() { return row_; }
  // Error(kIo) if the row, or one before it, cannot be written.
  void end_row();

 private:
  int opened(int flags) const;  // -1 with errno
  void check(bool written) const;
  bool write_rows();

  std::string path_;
  LogHead head_;
  int fd_ = -1;
  int64_t length_ = 0;  // of the file: whole rows
  CsvRow row_;
  fmt::memory_buffer rows_to_write_;  // more than one only after a failure
};

// `kind` is "loss" or "eval". Of a file that is continued it writes the columns that the header
// names; Error(kBadData) where it has one that is not among `columns`, or is no such log.
template <typename Report>
class ReportLog : CsvLog {
 public:
  ReportLog(const std::string& path, const std::string& kind, LogColumns<Report> columns,
            int64_t keep_bytes);
  void append(const Report& report);
  using CsvLog::find_again;
  using CsvLog::sync;

 private:
  LogColumns<Report> columns_;
};

class LossLog : public ReportLog<StepReport> {
 public:
  LossLog(const std::string& output_dir, const std::vector<std::string>& group_names,
          const std::vector<std::string>& dataset_names, int64_t keep_bytes = 0,
          const LogOrigin& origin = {});
};

class EvalLog : public ReportLog<EvalReport> {
 public:
  EvalLog(const std::string& output_dir, const std::vector<std::string>& dataset_names,
          int64_t keep_bytes = 0, const LogOrigin& origin = {});
};

}  // namespace facet
