#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/progress.h"

namespace facet {

namespace {

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

constexpr std::string_view kReplaced = ".replaced-";

// Suffixes like ".partial-4711".
bool is_left_over(const std::string& suffix) {
  for (const std::string_view kind :
       {std::string_view(".partial-"), std::string_view(".removed-"), kReplaced})
    if (suffix.starts_with(kind) && suffix.size() > kind.size() &&
        suffix.find_first_not_of("0123456789", kind.size()) == suffix.npos)
      return true;
  return false;
}

}  // namespace

void sync_directory(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

int64_t free_bytes(const std::string& path) {
  struct statvfs info {};
  CHECK(::statvfs(path.c_str(), &info) == 0, ExitCode::kIo, "{}: {}", path, std::strerror(errno));
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

std::string read_file(const std::string& path, int64_t max_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0, ExitCode::kMissingInput, "{}: cannot be opened: {}", path, std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  struct stat info {};
  CHECK(::fstat(fd, &info) == 0 && S_ISREG(info.st_mode), ExitCode::kMissingInput,
        "{}: not a regular file", path);
  CHECK(info.st_size <= max_bytes, ExitCode::kBadData,
        "{}: {} bytes, at most {} are read; is it the right file?", path, info.st_size, max_bytes);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t got = 0;
  while (got < text.size()) {
    const ssize_t n = ::read(fd, text.data() + got, text.size() - got);
    if (n < 0 && errno == EINTR) continue;
    CHECK(n >= 0, ExitCode::kMissingInput, "{}: reading failed at byte {}: {}", path, got,
          std::strerror(errno));
    CHECK(n > 0, ExitCode::kBadData, "{}: ends at byte {} of {}; is it still being written?", path,
          got, text.size());
    got += static_cast<size_t>(n);
  }
  return text;
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  CHECK(!error && std::filesystem::is_directory(path, error), ExitCode::kIo,
        "{}: cannot create the directory: {}", path,
        error ? error.message() : std::string("a file of that name exists"));
}

void publish_directory(const std::string& from, const std::string& to) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string old = fmt::format("{}{}{}", to, kReplaced, ::getpid());
  sync_directory(from);
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    sync_directory(directory_of(to));
    fs::remove_all(from, error);
    return;
  }
  if (fs::exists(to, error)) fs::rename(to, old, error);
  if (!error) {
    fs::rename(from, to, error);
    std::error_code ignored;
    if (error) fs::rename(old, to, ignored);
  }
  CHECK(!error, ExitCode::kIo, "{}: cannot rename the finished directory to this: {}", to,
        error.message());
  sync_directory(directory_of(to));
  fs::remove_all(old, error);
}

void tidy_directory(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<fs::path> left;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, ignored))
    if (is_left_over(entry.path().extension().string())) left.push_back(entry.path());
  for (const fs::path& path : left) {
    const fs::path name = fs::path(path).replace_extension();
    const bool was_replaced = path.extension().string().starts_with(kReplaced);
    std::error_code error;
    if (was_replaced && !fs::exists(name, error) && !error) fs::rename(path, name, error);
    CHECK(!was_replaced || !error, ExitCode::kIo, "{}: cannot be renamed back to {}: {}",
          path.string(), name.string(), error.message());
    fs::remove_all(path, ignored);  // leftovers do no harm
  }
}

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_(fmt::format("{}.partial-{}", path_, ::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno("cannot be created", 0);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail_errno(const char* action, int64_t bytes) const {
  const int reason = errno;
  fail(ExitCode::kIo, "{}: {} ({} bytes after {} written): {}; free space or choose another place",
       path_, action, bytes, written_, std::strerror(reason));
}

void AtomicFile::reserve(int64_t bytes) {
  if (bytes <= 0) return;
  int result = 0;
  do result = ::posix_fallocate(fd_, 0, bytes);
  while (result == EINTR);
  // Some file systems cannot reserve space; there the writes themselves fail on a full disk.
  if (result == 0 || result == EOPNOTSUPP || result == EINVAL) return;
  errno = result;
  fail_errno("cannot reserve the space", bytes);
}

void AtomicFile::write(const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, next, static_cast<size_t>(std::min(bytes, kWritePieceBytes)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("writing failed", bytes);
    next += n;
    bytes -= n;
    written_ += n;
    note_progress();
  }
}

void AtomicFile::commit() {
  ASSERT(fd_ >= 0, "{} is committed twice", path_);
  // More may have been reserved than was written.
  if (::ftruncate(fd_, written_) != 0) fail_errno("cannot set the length", written_);
  if (::fsync(fd_) != 0) fail_errno("flushing failed", written_);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    errno = reason;
    fail_errno("cannot be renamed to its final name", written_);
  }
  sync_directory(directory_of(path_));
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace facet
