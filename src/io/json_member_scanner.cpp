#include "io/json_member_scanner.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "io/content_kind.h"
#include "io/json_scanner.h"

namespace facet {

namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool ends_bare_value(char c) {
  return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

JsonMemberScanner::JsonMemberScanner(const InputFile& file)
    : file_(file), piece_(static_cast<size_t>(std::min(file.bytes(), kPieceBytes))) {}

bool JsonMemberScanner::at_end() {
  if (at_ < piece_bytes_) return false;
  piece_begin_ += piece_bytes_;
  piece_bytes_ = std::min(kPieceBytes, file_.bytes() - piece_begin_);
  at_ = 0;
  file_.read_at(piece_begin_, piece_.data(), piece_bytes_);
  return piece_bytes_ == 0;
}

char JsonMemberScanner::peek() { return at_end() ? '\0' : piece_[static_cast<size_t>(at_)]; }

char JsonMemberScanner::take() {
  const char c = peek();
  if (!at_end()) ++at_;
  return c;
}

void JsonMemberScanner::skip_spaces() {
  for (char c = peek(); c == ' ' || c == '\n' || c == '\r' || c == '\t'; c = peek()) ++at_;
}

void JsonMemberScanner::refuse(const std::string& reason) {
  const std::string begin = beginning_of(file_);
  const ContentKind kind = content_kind(begin);
  if (kind != ContentKind::kUnknown && kind != ContentKind::kJson &&
      kind != ContentKind::kJsonLines)
    fail(ExitCode::kBadData, "{}: {}", file_.path(), not_what_was_expected(begin, "JSON"));
  fail(ExitCode::kBadData, "{}: not one JSON object at byte {}{}: {}", file_.path(), position(),
       last_key_.empty() ? "" : ", after the key " + detail::printable(last_key_), reason);
}

void JsonMemberScanner::refuse_expecting(const char* what) {
  const bool end = at_end();
  refuse(fmt::format(
      "expected {}, found {}", what,
      end ? "the end of the file; is it cut off?" : detail::printable(std::string(1, peek()))));
}

void JsonMemberScanner::expect(char c, const char* what) {
  if (at_end() || peek() != c) refuse_expecting(what);
  ++at_;
}

void JsonMemberScanner::open() {
  if (!at_end() && std::string_view(piece_.data(), static_cast<size_t>(piece_bytes_))
                       .starts_with(kByteOrderMark))
    at_ = static_cast<int64_t>(kByteOrderMark.size());
  skip_spaces();
  expect('{', "an object, {id: text, ...}");
  place_ = Place::kInside;
}

bool JsonMemberScanner::close() {
  skip_spaces();
  if (at_end() || peek() != '}') return false;
  ++at_;
  skip_spaces();
  if (!at_end()) refuse_expecting("the end of the file");
  place_ = Place::kBehind;
  return true;
}

std::optional<JsonMember> JsonMemberScanner::next() {
  const bool first = place_ == Place::kBefore;
  if (first) open();
  if (place_ == Place::kBehind || close()) return std::nullopt;
  if (!first) {
    expect(',', "',' or '}'");
    skip_spaces();
  }
  JsonMember member;
  member.key = take_key();
  last_key_ = member.key;
  skip_spaces();
  expect(':', "':' after a key");
  skip_spaces();
  member.is_text = peek() == '"';
  member.offset = position() + (member.is_text ? 1 : 0);
  if (member.is_text) {
    skip_string(nullptr);
  } else {
    skip_other();
  }
  member.bytes = position() - member.offset - (member.is_text ? 1 : 0);
  return member;
}

std::string JsonMemberScanner::take_key() {
  if (peek() != '"') refuse_expecting("a key in double quotes");
  std::string written;
  skip_string(&written);
  try {
    return json_text_of(written, file_.path());
  } catch (const Error& error) {
    refuse(fmt::format("the key {}", error.what()));
  }
}

// Searches for the two characters that matter; everything else may be gigabytes.
void JsonMemberScanner::skip_string(std::string* text) {
  expect('"', "a string");
  for (;;) {
    if (at_end()) refuse("the file ends inside a string; is it cut off?");
    const char* const begin = piece_.data() + at_;
    const auto left = static_cast<size_t>(piece_bytes_ - at_);
    const auto* quote = static_cast<const char*>(std::memchr(begin, '"', left));
    const size_t plain = quote == nullptr ? left : static_cast<size_t>(quote - begin);
    const auto* escape = static_cast<const char*>(std::memchr(begin, '\\', plain));
    const size_t taken = escape == nullptr ? plain : static_cast<size_t>(escape - begin);
    if (text != nullptr) text->append(begin, taken);
    at_ += static_cast<int64_t>(taken);
    if (text != nullptr && static_cast<int64_t>(text->size()) > kMaxKeyBytes)
      refuse(fmt::format("a key of more than {} bytes", kMaxKeyBytes));
    if (escape != nullptr) {
      const char escaped[] = {take(), take()};
      if (text != nullptr) text->append(escaped, sizeof escaped);
    } else if (quote != nullptr) {
      ++at_;
      return;
    }
  }
}

// A number or word up to its end; an object or array up to the bracket that closes it.
void JsonMemberScanner::skip_other() {
  constexpr std::string_view kBegins = "{[-0123456789tfnNI";
  if (at_end() || kBegins.find(peek()) == kBegins.npos) refuse_expecting("a value");
  int64_t depth = 0;
  do {
    if (at_end()) refuse("the file ends inside a value; is it cut off?");
    const char c = peek();
    if (c == '"') {
      skip_string(nullptr);
      continue;
    }
    if (depth == 0 && ends_bare_value(c)) return;
    depth += (c == '{' || c == '[' ? 1 : 0) - (c == '}' || c == ']' ? 1 : 0);
    ++at_;
    if (depth == 0 && (c == '}' || c == ']')) return;
  } while (true);
}

std::string json_text_of(std::string_view as_written, const std::string& name) {
  const std::string quoted = fmt::format("\"{}\"", as_written);
  std::string text;
  try {
    detail::JsonScanner scanner(quoted);
    scanner.take_string(text);
    if (scanner.at_end()) return text;
    fail(ExitCode::kBadData, "{}: a quotation mark inside a string", name);
  } catch (const detail::JsonSyntaxError& error) {
    fail(ExitCode::kBadData, "{}: not a JSON string: {}", name, error.reason);
  }
}

}  // namespace facet
