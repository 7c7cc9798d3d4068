#include "train/loss_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace facet {

namespace {

std::string prefixed(const char* prefix, const std::vector<std::string>& names) {
  std::string columns;
  for (const std::string& name : names) columns += fmt::format(",{}{}", prefix, name);
  return columns;
}

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

}  // namespace

CsvLog::CsvLog(const std::string& path, const std::string& version_line, const std::string& header,
               int64_t keep_bytes)
    : path_(path), head_(version_line + "\n" + header + "\n") {
  if (keep_bytes > 0 && cut_back(path, keep_bytes)) {
    length_ = keep_bytes;
    fd_ = opened(O_WRONLY);
    check(fd_ >= 0);
    return;
  }
  if (keep_bytes > 0) warn("{}: the rows up to the checkpoint are gone; a new file begins", path);
  std::rename(path.c_str(), (path + ".previous").c_str());  // fails where there is none
  fd_ = opened(O_WRONLY | O_CREAT | O_TRUNC);
  check(fd_ >= 0);
  rows_to_write_.append(head_);
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
  rows_to_write_.append(head_ + rows);
}

int64_t CsvLog::sync() {
  write_rows();
  CHECK(::fsync(fd_) == 0, ExitCode::kIo, "{}: can't be flushed: {}", path_, std::strerror(errno));
  return length_;
}

void CsvLog::end_row() {
  row_.push_back('\n');
  rows_to_write_.append(row_);
  row_.clear();
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

LossLog::LossLog(const std::string& output_dir, const std::vector<std::string>& group_names,
                 const std::vector<std::string>& dataset_names, int64_t keep_bytes)
    : CsvLog(output_dir + "/loss_log.csv", "# facet loss log v1",
             "step,epoch,micro_batches,samples,tokens,labelled_tokens,loss,grad_norm,clip_factor,"
             "loss_scale,skipped" +
                 prefixed("lr_", group_names) + ",seconds" + prefixed("loss_", dataset_names) +
                 prefixed("labelled_tokens_", dataset_names),
             keep_bytes) {}

void LossLog::append(const StepReport& r) {
  put(r.step);
  put(r.epoch);
  put(r.micro_batches);
  put(r.samples);
  put(r.tokens);
  put(r.labelled_tokens);
  put(r.loss);
  put(r.grad_norm);
  put(r.clip_factor);
  put(r.loss_scale);
  put(r.skipped ? 1 : 0);
  for (const double rate : r.learning_rates) put(rate);
  put(r.seconds);
  for (const LossOfDataset& d : r.datasets) put(d.mean());
  for (const LossOfDataset& d : r.datasets) put(d.labelled_tokens);
  end_row();
}

EvalLog::EvalLog(const std::string& output_dir, const std::vector<std::string>& dataset_names,
                 int64_t keep_bytes)
    : CsvLog(output_dir + "/eval_log.csv", "# facet eval log v1",
             "step,epoch,samples,labelled_tokens,loss,seconds" + prefixed("loss_", dataset_names) +
                 prefixed("labelled_tokens_", dataset_names),
             keep_bytes) {}

void EvalLog::append(const EvalReport& r) {
  put(r.step);
  put(r.epoch);
  put(r.samples);
  put(r.labelled_tokens);
  put(r.loss);
  put(r.seconds);
  for (const LossOfDataset& d : r.datasets) put(d.mean());
  for (const LossOfDataset& d : r.datasets) put(d.labelled_tokens);
  end_row();
}

}  // namespace facet
