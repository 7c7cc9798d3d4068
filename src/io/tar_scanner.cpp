#include "io/tar_scanner.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/printable.h"
#include "io/content_kind.h"

namespace facet {

struct TarScanner::Header {
  char name[100], mode[8], owner[8], group[8], size[12], time[12], checksum[8];
  char type, link[100], magic[8], owner_name[32], group_name[32], device[16], prefix[155], pad[12];
};

namespace {

template <size_t n>
std::string_view text_of(const char (&field)[n]) {
  return {field, strnlen(field, n)};
}

// Octal digits between blanks; nothing if it is something else.
std::optional<int64_t> octal(std::string_view field) {
  const size_t begin = std::min(field.find_first_not_of(' '), field.size());
  const size_t end = std::min(field.find_first_of(std::string_view(" \0", 2), begin), field.size());
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(field.data() + begin, field.data() + end, value, 8);
  if (begin == end) return 0;
  if (error != std::errc() || stop != field.data() + end || value < 0) return std::nullopt;
  return value;
}

// GNU's numbers that do not fit octal digits: the first bit set, then big-endian.
std::optional<int64_t> binary(std::string_view field) {
  uint64_t value = static_cast<uint8_t>(field[0]) & 0x7F;
  for (const char c : field.substr(1)) {
    if (value >> 55 != 0) return std::nullopt;
    value = value << 8 | static_cast<uint8_t>(c);
  }
  return static_cast<int64_t>(value);
}

// Both ways to add bytes that old programs have: as unsigned and as signed numbers.
bool has_checksum(const char (&block)[TarScanner::kBlock], int64_t expected) {
  int64_t as_unsigned = 0, as_signed = 0;
  for (size_t i = 0; i < sizeof block; ++i) {
    const char c = i >= 148 && i < 156 ? ' ' : block[i];
    as_unsigned += static_cast<uint8_t>(c);
    as_signed += static_cast<int8_t>(c);
  }
  return expected == as_unsigned || expected == as_signed;
}

bool is_regular(char type) { return type == '0' || type == '\0' || type == '7'; }

// Links, devices, directories and FIFOs, whatever their size field says.
bool has_no_content(char type) { return type >= '1' && type <= '6'; }

}  // namespace

void TarScanner::refuse(const std::string& reason) const {
  fail(ExitCode::kBadData, "{}: not a sound tar archive at byte {}{}: {}", file_.path(), at_,
       last_name_.empty() ? "" : ", after the member " + printable(last_name_), reason);
}

// False at the end.
bool TarScanner::read_header(Header& header) {
  static_assert(sizeof header == kBlock);
  if (file_.bytes() - at_ < kBlock)
    refuse("the file ends without the block of zeros that ends an archive; is it cut off?");
  char block[kBlock];
  file_.read_at(at_, block, sizeof block);
  if (std::all_of(std::begin(block), std::end(block), [](char c) { return c == 0; })) return false;
  std::memcpy(&header, block, sizeof header);
  const std::optional<int64_t> sum = octal({header.checksum, sizeof header.checksum});
  if (sum && has_checksum(block, *sum)) return true;
  const std::string other = not_what_was_expected({block, sizeof block}, "a tar archive");
  const bool is_tar = content_kind({block, sizeof block}) == ContentKind::kTar;
  if (at_ == 0 && !other.empty() && !is_tar)
    fail(ExitCode::kBadData, "{}: {}", file_.path(), other);
  refuse("the checksum of a header is wrong");
}

int64_t TarScanner::size_of(const Header& header) const {
  const std::string_view field(header.size, sizeof header.size);
  const auto value = (field[0] & 0x80) != 0 ? binary(field) : octal(field);
  if (!value) refuse("the size of a member is no number");
  return *value;
}

void TarScanner::skip(int64_t bytes) {
  if (bytes > file_.bytes() - at_)
    refuse(fmt::format("a member has {} bytes, of which the file holds {}; is it cut off?", bytes,
                       file_.bytes() - at_));
  at_ += bytes;
  at_ = std::min(file_.bytes(), at_ + (kBlock - bytes % kBlock) % kBlock);
}

std::string TarScanner::content(int64_t bytes) const {
  if (bytes > kMaxExtraBytes)
    refuse(fmt::format("a name or its extra fields have more than {} bytes", kMaxExtraBytes));
  if (bytes > file_.bytes() - at_) refuse("the file ends inside a name; is it cut off?");
  std::string text(static_cast<size_t>(bytes), '\0');
  file_.read_at(at_, text.data(), bytes);
  return text;
}

// Records of "LENGTH KEY=VALUE\n", of which LENGTH counts all bytes.
void TarScanner::take_pax(const std::string& fields, Extra& extra) const {
  std::string_view rest = fields;
  while (!rest.empty()) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<size_t>(end - rest.data());
    if (error != std::errc() || length > rest.size() || length < digits + 2 ||
        rest[digits] != ' ' || rest[length - 1] != '\n')
      refuse("extra fields (pax) that are not LENGTH KEY=VALUE");
    const std::string_view record = rest.substr(digits + 1, length - digits - 2);
    const size_t equal = record.find('=');
    if (equal == record.npos) refuse("an extra field (pax) without a value");
    const std::string_view key = record.substr(0, equal), value = record.substr(equal + 1);
    if (key.starts_with("GNU.sparse.")) refuse("a sparse member; pack without --sparse");
    if (key == "path") extra.name = value;
    if (key == "size") {
      const auto [stop, wrong] =
          std::from_chars(value.data(), value.data() + value.size(), extra.bytes);
      if (wrong != std::errc() || stop != value.data() + value.size() || extra.bytes < 0)
        refuse("the size of a member is no number");
    }
    rest.remove_prefix(length);
  }
}

std::optional<TarMember> TarScanner::next() {
  Extra extra;
  Header header;
  while (read_header(header)) {
    int64_t bytes = size_of(header);
    at_ += kBlock;
    if (header.type == 'S') refuse("a sparse member; pack without --sparse");
    if (header.type == 'L' || header.type == 'x') {
      const std::string text = content(bytes);
      if (header.type == 'x') take_pax(text, extra);
      if (header.type == 'L') extra.name = text.substr(0, text.find('\0'));
      skip(bytes);
      continue;
    }
    if (extra.bytes >= 0 && header.type != 'g' && header.type != 'K') bytes = extra.bytes;
    if (has_no_content(header.type)) bytes = 0;
    TarMember member{extra.name, at_, bytes};
    if (member.name.empty()) {
      const bool has_prefix = std::memcmp(header.magic, "ustar\0", 6) == 0;
      const std::string_view prefix = has_prefix ? text_of(header.prefix) : std::string_view();
      member.name = fmt::format("{}{}{}", prefix, prefix.empty() ? "" : "/", text_of(header.name));
    }
    skip(bytes);
    if (header.type == 'g' || header.type == 'K') continue;  // they stand before a member too
    extra = {};
    last_name_ = member.name;
    if (is_regular(header.type)) return member;
  }
  return std::nullopt;
}

}  // namespace facet
