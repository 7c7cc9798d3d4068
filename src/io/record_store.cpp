#include "io/record_store.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/progress.h"
#include "io/file.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kEntryBytes = RecordStore::kEntryBytes;
constexpr char kMagic[32] = "facet records 1\n";
constexpr size_t kOpenFiles = 64;                   // of others' data, at most
constexpr int64_t kLookAgain = int64_t{256} << 20;  // bytes added between looks at the limit
constexpr int64_t kIndexPieceBytes = kEntryBytes << 14;

struct Entry {
  RecordKey key{};
  int64_t offset = 0, bytes = 0;
  std::array<uint64_t, 2> hash{};
  uint64_t unused = 0;
  uint64_t own_hash = 0;

  uint64_t computed_hash() const { return XXH3_64bits(this, offsetof(Entry, own_hash)); }
  bool is_whole() const { return own_hash == computed_hash() && offset >= 0 && bytes >= 0; }
};
static_assert(sizeof(Entry) == kEntryBytes);

std::string header() {
  std::string text(static_cast<size_t>(kEntryBytes), '\0');
  std::memcpy(text.data(), kMagic, sizeof kMagic);
  return text;
}

}  // namespace

RecordKey record_key(const void* data, int64_t bytes) {
  const XXH128_hash_t hash = XXH3_128bits(data, static_cast<size_t>(bytes));
  return {hash.high64, hash.low64};
}

// ---- the files of this process

struct RecordStore::Writer {
  Writer(const std::string& directory, const std::string& host) {
    constexpr int kAttempts = 1000;  // a process of that number was here before
    const std::string first = fmt::format("{}/records-{}-{}", directory, host, ::getpid());
    for (int attempt = 0; attempt < kAttempts && index < 0; ++attempt) {
      stem = attempt == 0 ? first : fmt::format("{}-{}", first, attempt);
      if (!create_both() && errno != EEXIST) break;
    }
    if (index < 0) fail_errno(stem + ".{data,index}", "cannot be created");
    append(index, stem + ".index", header().data(), kEntryBytes);
  }
  ~Writer() { close(); }

  static int create(const std::string& path) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  }

  // Both files or none; false with errno.
  bool create_both() {
    data = create(stem + ".data");
    if (data < 0) return false;
    index = create(stem + ".index");
    if (index >= 0) return true;
    const int reason = errno;
    ::close(std::exchange(data, -1));
    ::unlink((stem + ".data").c_str());
    errno = reason;
    return false;
  }

  [[noreturn]] void fail_errno(const std::string& path, const char* what) {
    const int reason = errno;
    close();
    fail(ExitCode::kIo, "{}: {}: {}", path, what, std::strerror(reason));
  }

  void append(int file, const std::string& path, const void* bytes, int64_t count) {
    const char* next = static_cast<const char*>(bytes);
    while (count > 0) {
      const ssize_t n = ::write(file, next, static_cast<size_t>(std::min(count, kWritePieceBytes)));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno(path, "writing failed");
      next += n;
      count -= n;
      note_progress();
    }
  }

  void add(const RecordKey& key, std::span<const std::byte> bytes) {
    const auto count = static_cast<int64_t>(bytes.size());
    append(data, stem + ".data", bytes.data(), count);
    Entry entry{key, end, count, record_key(bytes.data(), count)};
    entry.own_hash = entry.computed_hash();
    append(index, stem + ".index", &entry, kEntryBytes);
    end += count;
  }

  // Data first: an entry shall not outlive its record.
  void sync() {
    if (::fdatasync(data) != 0) fail_errno(stem + ".data", "flushing failed");
    if (::fdatasync(index) != 0) fail_errno(stem + ".index", "flushing failed");
  }

  void close() {
    for (int* const file : {&data, &index}) {
      if (*file >= 0) ::close(*file);
      *file = -1;
    }
  }

  std::string stem;
  int data = -1, index = -1;
  int64_t end = 0;  // of the data
};

RecordStore::RecordStore(std::string directory, std::string host, RecordRoom room)
    : directory_(std::move(directory)), host_(std::move(host)), room_(std::move(room)) {
  refresh();
}

RecordStore::~RecordStore() = default;

int64_t RecordStore::bytes_below(const std::string& directory) {
  int64_t bytes = 0;
  std::error_code error;
  using Options = fs::directory_options;
  for (fs::recursive_directory_iterator at(directory, Options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error)) {
    std::error_code gone;  // others may be tidying
    if (!at->is_regular_file(gone) || gone) continue;
    if (const auto size = at->file_size(gone); !gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

// The limit is looked at before the first record and then every kLookAgain bytes.
bool RecordStore::has_room(int64_t bytes) {
  if (bytes > room_.own - added_) return false;
  if (room_.limit == INT64_MAX) return true;
  if (looked_at_ < 0 || added_ - looked_at_ >= kLookAgain) {
    if (bytes > room_.limit - bytes_below(room_.directory)) return false;
    looked_at_ = added_;
  }
  return true;
}

void RecordStore::stop_adding(const std::string& why) {
  adds_ = false;
  writer_.reset();
  say(why);
}

void RecordStore::add(const RecordKey& key, std::span<const std::byte> data) {
  if (!adds_ || own_.contains(key) || contains(key)) return;
  const auto bytes = static_cast<int64_t>(data.size()) + kEntryBytes;
  if (!has_room(bytes))
    return stop_adding(fmt::format("{} is full: nothing more is stored there", room_.directory));
  try {
    if (!writer_) writer_ = std::make_unique<Writer>(directory_, host_);
    writer_->add(key, data);
  } catch (const Error& error) {
    return stop_adding(fmt::format("{}; nothing more is stored there", error.what()));
  }
  own_.insert(key);
  added_ += bytes;
}

void RecordStore::sync() {
  if (!writer_) return;
  try {
    writer_->sync();
  } catch (const Error& error) {
    stop_adding(fmt::format("{}; nothing more is stored there", error.what()));
  }
}

// ---- the files of all

void RecordStore::refresh() {
  std::error_code error;
  std::vector<std::string> stems;
  for (fs::directory_iterator at(directory_, error), end; !error && at != end; at.increment(error))
    if (at->path().extension() == ".index" &&
        at->path().filename().string().starts_with("records-"))
      stems.push_back(fs::path(at->path()).replace_extension().string());
  if (error) say(fmt::format("{}: cannot be listed: {}", directory_, error.message()));
  std::sort(stems.begin(), stems.end());
  const std::unique_lock lock(mutex_);
  for (const std::string& stem : stems) {
    const auto known = std::find_if(files_.begin(), files_.end(),
                                    [&](const File& file) { return file.stem == stem; });
    const auto number = static_cast<uint32_t>(known - files_.begin());
    if (known == files_.end()) files_.push_back({stem});
    try {
      read_index(number);
    } catch (const Error& failed) {
      ++damaged_;
      say(failed.what());
    }
  }
}

// From where the last call ended. Entries at the end that are not whole may still be on their way;
// those that others follow are damaged.
void RecordStore::read_index(uint32_t number) {
  File& file = files_[number];
  if (file.is_foreign) return;
  const InputFile input(file.stem + ".index", ExitCode::kIo);
  if (file.index_end == 0) {
    if (input.bytes() < kEntryBytes) return;
    std::string begin(static_cast<size_t>(kEntryBytes), '\0');
    input.read_at(0, begin.data(), kEntryBytes);
    file.is_foreign = begin != header();
    CHECK(!file.is_foreign, ExitCode::kBadData,
          "{}: not an index of records; remove it when no run uses it", input.path());
    file.index_end = kEntryBytes;
  }
  const int64_t end = input.bytes() / kEntryBytes * kEntryBytes;
  // NFS may show a file that stays open as long as it was before.
  if (end > file.index_end) file.data.reset();
  std::vector<Entry> entries;
  int64_t pending = 0;
  for (int64_t at = file.index_end; at < end;
       at += static_cast<int64_t>(entries.size()) * kEntryBytes) {
    entries.resize(static_cast<size_t>(std::min(kIndexPieceBytes, end - at) / kEntryBytes));
    input.read_at(at, entries.data(), static_cast<int64_t>(entries.size()) * kEntryBytes);
    for (const Entry& entry : entries) {
      ++pending;
      if (!entry.is_whole()) continue;
      if (pending > 1) say(fmt::format("{}: {} damaged entries", input.path(), pending - 1));
      damaged_ += pending - 1;
      file.index_end += pending * kEntryBytes;
      pending = 0;
      places_.emplace(entry.key, Place{number, entry.offset, entry.bytes, entry.hash});
    }
  }
}

int64_t RecordStore::records() const {
  const std::shared_lock lock(mutex_);
  return static_cast<int64_t>(places_.size());
}

bool RecordStore::contains(const RecordKey& key) const {
  const std::shared_lock lock(mutex_);
  return places_.contains(key);
}

std::vector<RecordStore::Place> RecordStore::places_of(const RecordKey& key) const {
  const std::shared_lock lock(mutex_);
  std::vector<Place> places;
  const auto [begin, end] = places_.equal_range(key);
  for (auto at = begin; at != end; ++at) places.push_back(at->second);
  return places;
}

bool RecordStore::find(const RecordKey& key, std::span<std::byte> data) {
  for (const Place& place : places_of(key)) {
    if (read_whole(place, data)) return true;
    forget(key, place);
  }
  return false;
}

bool RecordStore::read_whole(const Place& place, std::span<std::byte> data) {
  const auto bytes = static_cast<int64_t>(data.size());
  std::string what = fmt::format("holds {} bytes instead of {}", place.bytes, bytes);
  std::string path;
  try {
    const std::shared_ptr<const InputFile> file = data_file(place.file);
    path = file->path();
    if (place.bytes == bytes) {
      file->read_at(place.offset, data.data(), bytes);
      if (record_key(data.data(), bytes) == place.hash) return true;
      what = "is damaged";
    }
    say(fmt::format("{}: the record at byte {} {}; it is made again", path, place.offset, what));
  } catch (const Error& error) {
    say(fmt::format("{}; what was there is made again", error.what()));
  }
  ++damaged_;
  return false;
}

// Files stay open, up to a number of them; who still reads one that is closed here keeps it.
std::shared_ptr<const InputFile> RecordStore::data_file(uint32_t number) {
  {
    const std::shared_lock lock(mutex_);
    if (files_[number].data) return files_[number].data;
  }
  const std::unique_lock lock(mutex_);
  File& file = files_[number];
  if (!file.data) {
    file.data = std::make_shared<const InputFile>(file.stem + ".data", ExitCode::kIo);
    const auto open = std::count_if(files_.begin(), files_.end(),
                                    [](const File& f) { return f.data != nullptr; });
    while (static_cast<size_t>(open) > kOpenFiles) {
      File& other = files_[next_to_close_++ % files_.size()];
      if (&other == &file || !other.data) continue;
      other.data.reset();
      break;
    }
  }
  return file.data;
}

void RecordStore::forget(const RecordKey& key, const Place& place) {
  const std::unique_lock lock(mutex_);
  const auto [begin, end] = places_.equal_range(key);
  for (auto at = begin; at != end; ++at)
    if (at->second.file == place.file && at->second.offset == place.offset) {
      places_.erase(at);
      return;
    }
}

void RecordStore::say(std::string word) {
  constexpr size_t kMostWords = 20;  // a broken disk has the same to say of every record
  const std::lock_guard lock(words_mutex_);
  if (words_.size() < kMostWords) words_.push_back(std::move(word));
}

std::vector<std::string> RecordStore::take_words() {
  const std::lock_guard lock(words_mutex_);
  return std::exchange(words_, {});
}

}  // namespace facet
