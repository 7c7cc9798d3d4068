#include "data/record_index.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "io/json_record_scanner.h"

namespace facet {

namespace {

static_assert(sizeof(RecordIndex::Entry) == 16);

IndexBody build(const InputFile& file) {
  IndexBody body;
  const uint64_t hash = scan_json_records(file, [&](const JsonRecordPlace& place) {
    CHECK(place.line <= UINT32_MAX, ExitCode::kBadData, "{}: more than 2^32 lines", file.path());
    const RecordIndex::Entry entry = {
        place.offset, static_cast<uint32_t>(std::min<int64_t>(place.bytes, UINT32_MAX)),
        static_cast<uint32_t>(place.line)};
    body.bytes.append(reinterpret_cast<const char*>(&entry), sizeof entry);
    ++body.entries;
  });
  body.bytes.append(reinterpret_cast<const char*>(&hash), sizeof hash);
  return body;
}

IndexSubject subject_of(const InputFile& file, const std::string& directory,
                        const std::string& name) {
  return {"facet record index v1\n",
          sizeof(RecordIndex::Entry),
          file.path(),
          file.bytes(),
          file.modified(),
          directory,
          name + ".index",
          file.path() + ".index"};
}

}  // namespace

RecordIndex::RecordIndex(const InputFile& file, const std::string& directory,
                         const std::string& name)
    : kept_(subject_of(file, directory, name), [&] { return build(file); }),
      entries_(static_cast<const Entry*>(kept_.entries()), kept_.num_entries()) {
  CHECK(kept_.rest().size() == sizeof(uint64_t), ExitCode::kBadData,
        "{}: its index is damaged; remove it", file.path());
}

void RecordIndex::keep(const InputFile& file, const std::string& directory,
                       const std::string& name) {
  KeptIndex::keep(subject_of(file, directory, name), [&] { return build(file); });
}

std::string RecordIndex::name_of(const InputFile& file, int64_t record) const {
  return fmt::format("{}, line {}", file.path(), entries_[static_cast<size_t>(record)].line);
}

JsonDocument RecordIndex::read(const InputFile& file, int64_t record) const {
  const Entry& entry = entries_[static_cast<size_t>(record)];
  const std::string name = name_of(file, record);
  CHECK(entry.bytes <= kMaxRecordBytes, ExitCode::kBadData, "{}: a record of more than {} bytes",
        name, kMaxRecordBytes);
  std::string text(entry.bytes, '\0');
  file.read_at(entry.offset, text.data(), entry.bytes);
  return JsonDocument::parse_any_bytes(text, name);
}

uint64_t RecordIndex::hash_of_file() const {
  uint64_t hash = 0;
  std::memcpy(&hash, kept_.rest().data(), sizeof hash);
  return hash;
}

}  // namespace facet
