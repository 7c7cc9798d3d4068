#include "io/zip_file.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/checked_math.h"

namespace facet {

namespace {

constexpr int64_t kMaxDirectoryBytes = 100'000'000;
constexpr int64_t kEndBytes = 22, kMaxCommentBytes = 65535;
constexpr int64_t kLocatorBytes = 20, kEnd64Bytes = 56;
constexpr int64_t kHeaderBytes = 46;       // of an entry in the directory
constexpr int64_t kLocalHeaderBytes = 30;  // of an entry before its content
constexpr uint32_t kEndMark = 0x06054b50, kLocatorMark = 0x07064b50, kEnd64Mark = 0x06064b50;
constexpr uint32_t kHeaderMark = 0x02014b50, kLocalHeaderMark = 0x04034b50;
constexpr uint16_t kZip64Field = 1;
constexpr uint32_t kInZip64 = 0xffffffff;  // the number stands in the zip64 part

template <typename T>
T number_at(std::string_view bytes, int64_t at) {
  T number;
  std::memcpy(&number, bytes.substr(static_cast<size_t>(at), sizeof number).data(), sizeof number);
  return number;
}
uint16_t word_at(std::string_view bytes, int64_t at) { return number_at<uint16_t>(bytes, at); }
uint32_t mark_at(std::string_view bytes, int64_t at) { return number_at<uint32_t>(bytes, at); }
int64_t long_at(std::string_view bytes, int64_t at) { return number_at<int64_t>(bytes, at); }

// An entry with its local header, which lies before its content.
struct Placed {
  int64_t begin, end;
};

class Directory {
 public:
  explicit Directory(const InputFile& file) : file_(file) {}
  std::map<std::string, ZipEntry> read();

 private:
  [[noreturn]] void damaged(std::string_view what) const {
    fail(ExitCode::kBadData, "{}: {}; the zip file is truncated or damaged", file_.path(), what);
  }
  std::string range(int64_t begin, int64_t bytes, std::string_view what) const;
  void find_end();
  void find_end64(int64_t end);
  int64_t read_entry(std::string_view header);
  void take_zip64(std::string_view extra, ZipEntry& entry, int64_t& whole_bytes,
                  int64_t& local) const;
  void place(const std::string& name, int64_t local, ZipEntry& entry);
  void check_order();

  const InputFile& file_;
  int64_t begin_ = 0, bytes_ = 0, count_ = 0;
  std::map<std::string, ZipEntry> entries_;
  std::vector<Placed> placed_;
};

std::string Directory::range(int64_t begin, int64_t bytes, std::string_view what) const {
  if (!lies_within(begin, bytes, file_.bytes())) damaged(fmt::format("{} lies outside", what));
  std::string text(static_cast<size_t>(bytes), '\0');
  file_.read_at(begin, text.data(), bytes);
  return text;
}

// The end of the directory is the last thing in the file but for a comment.
void Directory::find_end() {
  const int64_t tail_bytes = std::min(file_.bytes(), kEndBytes + kMaxCommentBytes);
  const std::string tail = range(file_.bytes() - tail_bytes, tail_bytes, "its end");
  for (int64_t at = tail_bytes - kEndBytes; at >= 0; --at) {
    if (mark_at(tail, at) != kEndMark) continue;
    if (word_at(tail, at + 20) != tail_bytes - at - kEndBytes) continue;
    const bool parts = word_at(tail, at + 4) != word_at(tail, at + 6) || word_at(tail, at + 4) != 0;
    count_ = word_at(tail, at + 10);
    bytes_ = mark_at(tail, at + 12);
    begin_ = mark_at(tail, at + 16);
    const bool zip64 = count_ == 0xffff || bytes_ == kInZip64 || begin_ == kInZip64;
    if (zip64) return find_end64(file_.bytes() - tail_bytes + at);
    if (parts) damaged("it is one of several parts");
    return;
  }
  damaged("it has no directory at its end");
}

void Directory::find_end64(int64_t end) {
  const std::string locator =
      range(end - kLocatorBytes, kLocatorBytes, "the place of its zip64 directory");
  if (mark_at(locator, 0) != kLocatorMark) damaged("it has no zip64 directory");
  const std::string end64 = range(long_at(locator, 8), kEnd64Bytes, "the end of its directory");
  if (mark_at(end64, 0) != kEnd64Mark) damaged("it has no zip64 directory");
  if (mark_at(end64, 16) != 0 || mark_at(end64, 20) != 0) damaged("it is one of several parts");
  count_ = long_at(end64, 32);
  bytes_ = long_at(end64, 40);
  begin_ = long_at(end64, 48);
}

std::map<std::string, ZipEntry> Directory::read() {
  find_end();
  CHECK(bytes_ <= kMaxDirectoryBytes, ExitCode::kBadData,
        "{}: a zip directory of {} bytes; up to {} are read", file_.path(), bytes_,
        kMaxDirectoryBytes);
  const std::string text = range(begin_, bytes_, "its directory");
  std::string_view rest = text;
  while (static_cast<int64_t>(rest.size()) >= kHeaderBytes && mark_at(rest, 0) == kHeaderMark)
    rest.remove_prefix(static_cast<size_t>(read_entry(rest)));
  if (static_cast<int64_t>(placed_.size()) != count_)
    damaged(fmt::format("its directory has {} of {} entries", placed_.size(), count_));
  check_order();
  return std::move(entries_);
}

// Returns the header's length.
int64_t Directory::read_entry(std::string_view header) {
  const int64_t name_bytes = word_at(header, 28), extra_bytes = word_at(header, 30);
  const int64_t whole = kHeaderBytes + name_bytes + extra_bytes + word_at(header, 32);
  if (whole > static_cast<int64_t>(header.size())) damaged("its directory ends within an entry");
  const std::string name(header.substr(kHeaderBytes, static_cast<size_t>(name_bytes)));
  ZipEntry entry;
  if (word_at(header, 10) != 0) entry.packed = "compressed";
  if ((word_at(header, 8) & 1) != 0) entry.packed = "encrypted";
  entry.crc = mark_at(header, 16);
  int64_t whole_bytes = mark_at(header, 24), local = mark_at(header, 42);
  entry.bytes = mark_at(header, 20);
  take_zip64(header.substr(static_cast<size_t>(kHeaderBytes + name_bytes),
                           static_cast<size_t>(extra_bytes)),
             entry, whole_bytes, local);
  if (entry.packed == nullptr && whole_bytes != entry.bytes)
    damaged(fmt::format("{} has two lengths", name));
  place(name, local, entry);
  return whole;
}

// The numbers that do not fit into 32 bits follow in the extra field, in this order.
void Directory::take_zip64(std::string_view extra, ZipEntry& entry, int64_t& whole_bytes,
                           int64_t& local) const {
  while (extra.size() >= 4) {
    const size_t length = word_at(extra, 2);
    if (length > extra.size() - 4) damaged("an extra field is too long");
    std::string_view field = extra.substr(4, length);
    if (word_at(extra, 0) == kZip64Field)
      for (int64_t* number : {&whole_bytes, &entry.bytes, &local}) {
        if (*number != kInZip64) continue;
        if (field.size() < 8) damaged("a zip64 field is too short");
        *number = long_at(field, 0);
        field.remove_prefix(8);
      }
    extra.remove_prefix(4 + length);
  }
}

void Directory::place(const std::string& name, int64_t local, ZipEntry& entry) {
  const std::string header = range(local, kLocalHeaderBytes, name);
  if (mark_at(header, 0) != kLocalHeaderMark) damaged(fmt::format("{} is not at its place", name));
  entry.begin = local + kLocalHeaderBytes + word_at(header, 26) + word_at(header, 28);
  if (!lies_within(entry.begin, entry.bytes, begin_))
    damaged(fmt::format("{} does not end before the directory", name));
  placed_.push_back({local, entry.begin + entry.bytes});
  if (!entries_.emplace(name, entry).second) damaged(fmt::format("{} occurs twice", name));
}

void Directory::check_order() {
  std::sort(placed_.begin(), placed_.end(),
            [](const Placed& a, const Placed& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < placed_.size(); ++i)
    if (placed_[i].begin < placed_[i - 1].end)
      damaged(fmt::format("entries overlap at byte {}", placed_[i].begin));
}

}  // namespace

std::map<std::string, ZipEntry> read_zip_directory(const InputFile& file) {
  return Directory(file).read();
}

uint32_t crc32_of(const InputFile& file, int64_t begin, int64_t bytes) {
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  std::vector<unsigned char> piece(static_cast<size_t>(std::min(bytes, kPieceBytes)));
  uLong crc = crc32(0, nullptr, 0);
  for (int64_t done = 0; done < bytes; done += kPieceBytes) {
    const int64_t n = std::min(kPieceBytes, bytes - done);
    file.read_at(begin + done, piece.data(), n);
    crc = crc32(crc, piece.data(), static_cast<uInt>(n));
  }
  return static_cast<uint32_t>(crc);
}

}  // namespace facet
