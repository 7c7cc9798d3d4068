#include "io/input_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/progress.h"

namespace facet {

namespace {

// "a FIFO"; nullptr for a regular file.
const char* irregular_kind(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG: return nullptr;
    case S_IFDIR: return "a directory";
    case S_IFIFO: return "a FIFO (named pipe)";
    case S_IFSOCK: return "a socket";
    case S_IFCHR:
    case S_IFBLK: return "a device";
    default: return "something else";
  }
}

void check_regular(const std::string& path, const struct stat& info) {
  const char* const kind = irregular_kind(info.st_mode);
  CHECK(kind == nullptr, ExitCode::kMissingInput, "{}: {}, not a regular file; give a file", path,
        kind);
}

}  // namespace

InputFile::InputFile(std::string path, ExitCode unreadable)
    : path_(std::move(path)), unreadable_(unreadable) {
  try {
    open();
  } catch (...) {
    if (fd_ >= 0) ::close(fd_);
    throw;
  }
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      unreadable_(other.unreadable_),
      fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_),
      modified_(other.modified_) {}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

// O_NONBLOCK: opening a FIFO waits for its writer otherwise. It changes nothing for regular files.
void InputFile::open() {
  struct stat info {};
  fd_ = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd_ < 0) {
    const int reason = errno;
    if (::stat(path_.c_str(), &info) == 0) check_regular(path_, info);  // a socket can't be opened
    CHECK(reason != EMFILE && reason != ENFILE, ExitCode::kSystem,
          "{}: cannot be opened: {}; raise ulimit -n", path_, std::strerror(reason));
    const bool missing = reason == ENOENT || reason == ENOTDIR;
    fail(missing ? ExitCode::kMissingInput : unreadable_, "{}: cannot be opened: {}", path_,
         std::strerror(reason));
  }
  CHECK(::fstat(fd_, &info) == 0, unreadable_, "{}: {}", path_, std::strerror(errno));
  check_regular(path_, info);
  bytes_ = info.st_size;
  modified_ = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

void InputFile::read_at(int64_t offset, void* data, int64_t bytes) const {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::pread(fd_, next, static_cast<size_t>(bytes), offset);
    note_progress();
    if (n < 0 && errno == EINTR) continue;
    CHECK(n >= 0, unreadable_, "{}: reading failed at byte {}: {}", path_, offset,
          std::strerror(errno));
    CHECK(n > 0, ExitCode::kBadData,
          "{}: ends at byte {}, {} more were expected; is it damaged, or still being written?",
          path_, offset, bytes);
    next += n;
    offset += n;
    bytes -= n;
  }
}

void InputFile::hash_into(Hasher& hasher, int64_t offset, int64_t bytes) const {
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  std::vector<char> piece(static_cast<size_t>(std::min(bytes, kPieceBytes)));
  for (int64_t done = 0; done < bytes; done += kPieceBytes) {
    const int64_t count = std::min(kPieceBytes, bytes - done);
    read_at(offset + done, piece.data(), count);
    hasher.update(piece.data(), count);
  }
}

MappedFile::MappedFile(const InputFile& file) {
  if (file.bytes() == 0) return;  // cannot be mapped
  const auto bytes = static_cast<size_t>(file.bytes());
  void* const begin = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.fd_, 0);
  CHECK(begin != MAP_FAILED, ExitCode::kIo, "{}: cannot be mapped: {}", file.path(),
        std::strerror(errno));
  bytes_ = {static_cast<const char*>(begin), bytes};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

void InputFile::drop_from_cache() const { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

}  // namespace facet
