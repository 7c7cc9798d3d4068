#include "io/json_record_scanner.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/progress.h"
#include "io/content_kind.h"

namespace facet {

namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

using Found = std::function<void(const JsonRecordPlace&)>;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Takes a file piece by piece.
class Scanner {
 public:
  Scanner(const InputFile& file, const Found& found) : file_(file), found_(found) {}
  virtual ~Scanner() = default;
  virtual void take(std::string_view piece) = 0;
  virtual void finish() = 0;

 protected:
  const InputFile& file_;
  const Found& found_;
  int64_t offset_ = 0;  // of the next byte in the file
  int64_t line_ = 1;
};

class LineScanner : public Scanner {
 public:
  using Scanner::Scanner;

  void take(std::string_view piece) override {
    while (!piece.empty()) {
      const size_t end = piece.find('\n');
      const std::string_view part = piece.substr(0, end);
      blank_ = blank_ && std::all_of(part.begin(), part.end(), is_space);
      offset_ += static_cast<int64_t>(part.size());
      if (end == piece.npos) return;
      finish();
      begin_ = ++offset_;
      ++line_;
      blank_ = true;
      piece.remove_prefix(end + 1);
    }
  }

  void finish() override {
    if (!blank_) found_({begin_, offset_ - begin_, line_});
  }

 private:
  int64_t begin_ = 0;  // of the line
  bool blank_ = true;
};

class ArrayScanner : public Scanner {
 public:
  using Scanner::Scanner;

  void take(std::string_view piece) override {
    for (const char c : piece) {
      if (in_string_) {
        take_in_string(c);
      } else if (depth_ > 1) {
        take_in_record(c);
      } else {
        take_between(c);
      }
      line_ += c == '\n' ? 1 : 0;
      ++offset_;
    }
  }

  void finish() override {
    if (place_ == Place::kBehind) return;
    refuse("the file ends inside the array; is it cut off?");
  }

 private:
  // Of the array; kFirst: nothing but its bracket yet.
  enum class Place : uint8_t { kBefore, kFirst, kRecord, kComma, kBehind };

  [[noreturn]] void refuse(const std::string& reason) const {
    fail(ExitCode::kBadData, "{}: not one JSON array of records, line {}, byte {}: {}",
         file_.path(), line_, offset_, reason);
  }

  void take_in_string(char c) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
  }

  // Inside brackets of a record.
  void take_in_record(char c) {
    if (c == '"') in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if ((c == '}' || c == ']') && depth_ > 1) --depth_;
  }

  void take_between(char c) {
    if (place_ == Place::kBefore) return take_before(c);
    if (is_space(c)) return;
    if (place_ == Place::kBehind) refuse("text after the end of the array");
    if (c == ',') return take_comma();
    if (c == ']') return take_end();
    if (place_ != Place::kRecord) begin_record();
    take_in_record(c);
  }

  void take_before(char c) {  // a byte order mark and white space may stand there
    if (c != '[') return;
    depth_ = 1;
    place_ = Place::kFirst;
  }
  void begin_record() {
    begin_ = offset_;
    begin_line_ = line_;
    place_ = Place::kRecord;
  }
  void take_comma() {
    if (place_ != Place::kRecord) refuse("expected a record before ','");
    emit();
    place_ = Place::kComma;
  }
  void take_end() {
    if (place_ == Place::kComma) refuse("expected a record after ','");
    if (place_ == Place::kRecord) emit();
    place_ = Place::kBehind;
  }
  void emit() { found_({begin_, offset_ - begin_, begin_line_}); }

  int64_t depth_ = 0;  // brackets that are open, the array's counts
  bool in_string_ = false, escaped_ = false;
  Place place_ = Place::kBefore;
  int64_t begin_ = 0, begin_line_ = 0;  // of the record
};

bool is_array(const InputFile& file, std::string_view beginning) {
  const std::string& path = file.path();
  if (path.ends_with(".jsonl") || path.ends_with(".ndjson")) return false;
  if (beginning.starts_with(kByteOrderMark)) beginning.remove_prefix(kByteOrderMark.size());
  const auto* first = std::find_if_not(beginning.begin(), beginning.end(), is_space);
  return first != beginning.end() && *first == '[';
}

// Of a file that may be JSON.
std::string checked_beginning(const InputFile& file) {
  std::string begin = beginning_of(file);
  const ContentKind kind = content_kind(begin);
  CHECK(kind == ContentKind::kUnknown || kind == ContentKind::kJson ||
            kind == ContentKind::kJsonLines,
        ExitCode::kBadData, "{}: {}", file.path(), not_what_was_expected(begin, "JSON"));
  return begin;
}

}  // namespace

uint64_t scan_json_records(const InputFile& file, const Found& found) {
  std::unique_ptr<Scanner> scanner;
  if (is_array(file, checked_beginning(file)))
    scanner = std::make_unique<ArrayScanner>(file, found);
  else
    scanner = std::make_unique<LineScanner>(file, found);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> hash(XXH3_createState(),
                                                                             XXH3_freeState);
  XXH3_64bits_reset(hash.get());
  std::vector<char> piece(static_cast<size_t>(std::min(file.bytes(), kPieceBytes)));
  for (int64_t at = 0; at < file.bytes(); at += kPieceBytes) {
    const int64_t bytes = std::min(kPieceBytes, file.bytes() - at);
    file.read_at(at, piece.data(), bytes);
    XXH3_64bits_update(hash.get(), piece.data(), static_cast<size_t>(bytes));
    scanner->take({piece.data(), static_cast<size_t>(bytes)});
    note_progress();
  }
  scanner->finish();
  return XXH3_64bits_digest(hash.get());
}

}  // namespace facet
