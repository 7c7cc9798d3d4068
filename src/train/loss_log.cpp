#include "train/loss_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace facet {

namespace {

// False when the file is shorter than that.
bool cut_back(const std::string& path, int64_t bytes) {
  std::error_code error;
  const auto length = static_cast<uintmax_t>(bytes);
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size < length) return false;
  std::filesystem::resize_file(path, length, error);
  CHECK(!error, ExitCode::kIo, "{}: can't be cut back: {}", path, error.message());
  return true;
}

// The first two lines, within the first `bytes` of the file.
std::optional<LogHead> head_of(const std::string& path, int64_t bytes) {
  std::ifstream file(path);
  LogHead head;
  std::getline(file, head.version_line);
  std::getline(file, head.header);
  const auto length = static_cast<int64_t>(head.text().size());
  if (!file || file.eof() || length > bytes) return std::nullopt;
  return head;
}

std::vector<std::string> names_in(const std::string& header) {
  std::vector<std::string> names;
  std::istringstream stream(header);
  for (std::string name; std::getline(stream, name, ',');) names.push_back(name);
  return names;
}

// In the order of the header.
template <typename Report>
LogColumns<Report> columns_of(const std::string& path, const LogHead& head,
                              const LogColumns<Report>& columns) {
  LogColumns<Report> chosen;
  for (const std::string& name : names_in(head.header)) {
    const auto known = std::find_if(columns.begin(), columns.end(),
                                    [&](const auto& column) { return column.name == name; });
    CHECK(known != columns.end(), ExitCode::kBadData,
          "{}: has a column '{}', which this run has nothing for (it has {}); where the file was "
          "edited, undo that; moved away, it begins anew",
          path, name, header_of(columns));
    chosen.push_back(*known);
  }
  return chosen;
}

constexpr const char* kVersionAtFirst = " v1";
constexpr const char* kVersion = " v2";

}  // namespace

CsvLog::CsvLog(const std::string& path, const LogHead& head, int64_t keep_bytes)
    : path_(path), head_(head) {
  const std::optional<LogHead> found = keep_bytes > 0 ? head_of(path, keep_bytes) : std::nullopt;
  if (found && cut_back(path, keep_bytes)) {
    head_ = *found;
    length_ = keep_bytes;
    fd_ = opened(O_WRONLY);
    check(fd_ >= 0);
    return;
  }
  if (keep_bytes > 0) warn("{}: the rows up to the checkpoint are gone; a new file begins", path);
  std::rename(path.c_str(), (path + ".previous").c_str());  // fails where there is none
  fd_ = opened(O_WRONLY | O_CREAT | O_TRUNC);
  check(fd_ >= 0);
  rows_to_write_.append(head_.text());
  check(write_rows());
}

CsvLog::~CsvLog() { ::close(fd_); }

int CsvLog::opened(int flags) const {
  return ::open(path_.c_str(), flags | O_NONBLOCK | O_CLOEXEC, 0666);
}

void CsvLog::check(bool written) const {
  CHECK(written, ExitCode::kIo, "{}: can't be written: {}", path_, std::strerror(errno));
}

// What is written to a file that has lost its name fails nowhere and is lost. One that was removed
// begins again; where another one has taken its place, an edited copy say, the rows go on in that.
void CsvLog::find_again() {
  struct stat mine {};
  struct stat named {};
  const bool taken = ::stat(path_.c_str(), &named) == 0;
  if (taken && ::fstat(fd_, &mine) == 0 && mine.st_ino == named.st_ino &&
      mine.st_dev == named.st_dev)
    return;
  const int fd = opened(taken ? O_WRONLY : O_WRONLY | O_CREAT | O_EXCL);
  CHECK(fd >= 0, ExitCode::kIo,
        "{}: was removed while the run was writing it, and its directory too: {}", path_,
        std::strerror(errno));
  warn("{}: was {} while the run was writing it; {}", path_, taken ? "replaced" : "removed",
       taken ? "the rows go on in the new file" : "a new file begins");
  ::close(std::exchange(fd_, fd));
  length_ = taken ? named.st_size : 0;
  if (taken) return;
  const std::string rows(rows_to_write_.data(), rows_to_write_.size());
  rows_to_write_.clear();
  rows_to_write_.append(head_.text() + rows);
}

int64_t CsvLog::sync() {
  write_rows();
  CHECK(::fsync(fd_) == 0, ExitCode::kIo, "{}: can't be flushed: {}", path_, std::strerror(errno));
  return length_;
}

void CsvLog::end_row() {
  row_.end(rows_to_write_);
  find_again();
  check(write_rows());
}

// All of them or none. False, with errno: they are kept for the next time.
bool CsvLog::write_rows() {
  const auto bytes = static_cast<int64_t>(rows_to_write_.size());
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n = ::pwrite(fd_, rows_to_write_.data() + done, static_cast<size_t>(bytes - done),
                               length_ + done);
    if (n < 0 && errno == EINTR) continue;
    if (n > 0) {
      done += n;
      continue;
    }
    const int reason = n < 0 ? errno : ENOSPC;
    if (::ftruncate(fd_, length_) != 0) {
      // Half a row stays. The next one is written over it, and a continued run cuts it off.
    }
    errno = reason;
    return false;
  }
  length_ += bytes;
  rows_to_write_.clear();
  return true;
}

template <typename Report>
ReportLog<Report>::ReportLog(const std::string& path, const std::string& kind,
                             LogColumns<Report> columns, int64_t keep_bytes)
    : CsvLog(path, {fmt::format("# facet {} log{}", kind, kVersion), header_of(columns)},
             keep_bytes) {
  const std::string name = fmt::format("# facet {} log", kind);
  const std::string& found = head().version_line;
  const bool at_first = found == name + kVersionAtFirst;
  CHECK(at_first || found == name + kVersion, ExitCode::kBadData,
        "{}: begins with '{}', not with '{}{}'; moved away, it begins anew", path, found, name,
        kVersion);
  if (at_first) row().write_absent_as("0");
  columns_ = columns_of(path, head(), columns);
}

template <typename Report>
void ReportLog<Report>::append(const Report& report) {
  for (const LogColumn<Report>& column : columns_) column.put(row(), report);
  end_row();
}

template class ReportLog<StepReport>;
template class ReportLog<EvalReport>;

LossLog::LossLog(const std::string& output_dir, const std::vector<std::string>& group_names,
                 const std::vector<std::string>& dataset_names, int64_t keep_bytes,
                 const LogOrigin& origin)
    : ReportLog(output_dir + "/loss_log.csv", "loss",
                loss_columns(group_names, dataset_names, origin), keep_bytes) {}

EvalLog::EvalLog(const std::string& output_dir, const std::vector<std::string>& dataset_names,
                 int64_t keep_bytes, const LogOrigin& origin)
    : ReportLog(output_dir + "/eval_log.csv", "eval", eval_columns(dataset_names, origin),
                keep_bytes) {}

}  // namespace facet
