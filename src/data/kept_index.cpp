#include "data/kept_index.h"

#include <xxhash.h>

#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/log.h"
#include "io/file.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

struct Header {
  char magic[24] = {};
  int64_t bytes = 0, modified = 0;  // of the files
  uint64_t entries = 0, rest_bytes = 0;
  uint64_t hash = 0;  // XXH3 of all that follows
};
static_assert(sizeof(Header) == 64);

Header header_of(std::string_view index) {
  Header header;
  std::memcpy(&header, index.data(), sizeof header);
  return header;
}

Header expected_header(const IndexSubject& subject) {
  Header header;
  ASSERT(subject.magic.size() < sizeof header.magic, "a magic of {} bytes", subject.magic.size());
  std::memcpy(header.magic, subject.magic.data(), subject.magic.size());
  header.bytes = subject.bytes;
  header.modified = subject.modified;
  return header;
}

std::string build(const IndexSubject& subject, const KeptIndex::Make& make) {
  log("{}: {} bytes are read once, for an index of them", subject.path, subject.bytes);
  const IndexBody body = make();
  Header header = expected_header(subject);
  header.entries = body.entries;
  header.rest_bytes = body.bytes.size() - body.entries * subject.entry_bytes;
  header.hash = XXH3_64bits(body.bytes.data(), body.bytes.size());
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + body.bytes;
}

// Whether these bytes, whole or not, are an index of these files as they are now.
bool is_of_these_files(const IndexSubject& subject, std::string_view bytes) {
  if (bytes.size() < sizeof(Header)) return false;
  const Header header = header_of(bytes), expected = expected_header(subject);
  return std::memcmp(header.magic, expected.magic, sizeof header.magic) == 0 &&
         header.bytes == subject.bytes && header.modified == subject.modified;
}

bool is_index_of(const IndexSubject& subject, std::string_view bytes) {
  if (!is_of_these_files(subject, bytes)) return false;
  const Header header = header_of(bytes);
  const std::string_view body = bytes.substr(sizeof header);
  return header.entries <= body.size() / subject.entry_bytes &&
         header.rest_bytes == body.size() - header.entries * subject.entry_bytes &&
         header.hash == XXH3_64bits(body.data(), body.size());
}

// Of one that cannot be used and is made again.
void warn_of_bad_index(const IndexSubject& subject, const std::string& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return;
  if (is_of_these_files(subject, MappedFile(InputFile(path)).bytes()))
    warn("{}: its index {} is damaged; it is made again", subject.path, path);
  else
    warn("{}: the file has changed since {} was made (size or time), which is made again",
         subject.path, path);
}

std::string path_in_directory(const IndexSubject& subject) {
  return subject.directory.empty() ? "" : subject.directory + "/" + subject.name;
}

}  // namespace

KeptIndex::KeptIndex(const IndexSubject& subject, const Make& make)
    : entry_bytes_(subject.entry_bytes) {
  if (!map(subject, path_in_directory(subject)) && !map(subject, subject.beside))
    built_ = build(subject, make);
}

bool KeptIndex::map(const IndexSubject& subject, const std::string& path) {
  std::error_code ignored;
  if (path.empty() || !fs::is_regular_file(path, ignored)) return false;
  mapped_.emplace(InputFile(path));
  if (!is_index_of(subject, mapped_->bytes())) mapped_.reset();
  return mapped_.has_value();
}

void KeptIndex::keep(const IndexSubject& subject, const Make& make) {
  const KeptIndex index(subject, make);
  if (index.is_mapped()) return;
  make_directories(subject.directory);
  const std::string path = path_in_directory(subject);
  warn_of_bad_index(subject, path);
  const std::string_view own[] = {subject.name};
  tidy_directory(subject.directory, own);
  write_file(path, index.built_);
}

uint64_t KeptIndex::num_entries() const { return header_of(bytes()).entries; }

const void* KeptIndex::entries() const { return bytes().data() + sizeof(Header); }

std::string_view KeptIndex::rest() const {
  return bytes().substr(sizeof(Header) + num_entries() * entry_bytes_);
}

}  // namespace facet
