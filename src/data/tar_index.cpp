#include "data/tar_index.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "base/check.h"
#include "base/progress.h"
#include "io/tar_scanner.h"

namespace facet {

namespace {

static_assert(sizeof(TarIndex::Entry) == 64);

struct SplitName {
  std::string_view key;
  std::string extension;
};

SplitName split(std::string_view name) {
  const size_t base = name.rfind('/') + 1;  // 0 without a slash
  const size_t dot = name.find('.', base);
  if (dot == name.npos || dot == base) return {};
  SplitName parts{name.substr(0, dot), std::string(name.substr(dot + 1))};
  for (char& c : parts.extension)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return parts;
}

// Which part of the sample a member is; nullptr: none.
TarIndex::Part* part_of(TarIndex::Entry& entry, const std::string& extension) {
  constexpr std::array<std::string_view, 4> kImages = {"jpg", "jpeg", "png", "webp"};
  if (std::find(kImages.begin(), kImages.end(), extension) != kImages.end()) return &entry.image;
  if (extension == "json") return &entry.json;
  return extension == "txt" ? &entry.caption : nullptr;
}

class Builder {
 public:
  void add_shard(uint32_t shard, const InputFile& file) {
    is_open_ = false;
    TarScanner scanner(file);
    while (const auto member = scanner.next()) {
      add(shard, *member);
      note_progress();
    }
    close();
  }

  IndexBody take() {
    body_.bytes += keys_;
    return std::move(body_);
  }

 private:
  void add(uint32_t shard, const TarMember& member) {
    const auto [key, extension] = split(member.name);
    TarIndex::Entry unused;
    if (part_of(unused, extension) == nullptr) return;
    if (!is_open_ || key != key_) {
      close();
      open_ = {};
      open_.shard = shard;
      key_ = key;
      is_open_ = true;
    }
    TarIndex::Part& part = *part_of(open_, extension);
    const bool twice = part.bytes != TarIndex::Part::kNone;
    part = {member.offset, twice ? TarIndex::Part::kTwice : member.bytes};
  }

  void close() {
    if (!is_open_) return;
    open_.key_begin = keys_.size();
    open_.key_bytes = static_cast<uint32_t>(key_.size());
    keys_ += key_;
    body_.bytes.append(reinterpret_cast<const char*>(&open_), sizeof open_);
    ++body_.entries;
    is_open_ = false;
  }

  IndexBody body_;
  std::string keys_;
  TarIndex::Entry open_;  // the sample whose members are being read
  std::string key_;
  bool is_open_ = false;
};

IndexBody build(const std::vector<std::string>& shards) {
  Builder builder;
  for (size_t s = 0; s < shards.size(); ++s)
    builder.add_shard(static_cast<uint32_t>(s), InputFile(shards[s]));
  return builder.take();
}

IndexSubject subject_of(const std::vector<std::string>& shards, const std::string& directory,
                        const std::string& name) {
  IndexSubject subject{
      "facet tar index v1\n", sizeof(TarIndex::Entry), {}, 0, 0, directory, {}, {}};
  uint64_t stamp = 0;
  for (const std::string& shard : shards) {
    const InputFile file(shard);
    const int64_t numbers[] = {file.bytes(), file.modified()};
    stamp = XXH3_64bits_withSeed(numbers, sizeof numbers, stamp);
    subject.bytes += file.bytes();
  }
  subject.path = shards.size() == 1
                     ? shards[0]
                     : fmt::format("{} and {} more shards", shards[0], shards.size() - 1);
  subject.modified = static_cast<int64_t>(stamp);
  subject.name = name + ".index";
  return subject;
}

}  // namespace

TarIndex::TarIndex(const std::vector<std::string>& shards, const std::string& directory,
                   const std::string& name)
    : kept_(subject_of(shards, directory, name), [&] { return build(shards); }),
      entries_(static_cast<const Entry*>(kept_.entries()), kept_.num_entries()) {}

void TarIndex::keep(const std::vector<std::string>& shards, const std::string& directory,
                    const std::string& name) {
  KeptIndex::keep(subject_of(shards, directory, name), [&] { return build(shards); });
}

std::string_view TarIndex::key_of(const Entry& entry) const {
  ASSERT(entry.key_begin + entry.key_bytes <= kept_.rest().size(),
         "an index with entries out of range");
  return kept_.rest().substr(entry.key_begin, entry.key_bytes);
}

uint64_t TarIndex::hash() const {
  const std::string_view keys = kept_.rest();
  return XXH3_64bits_withSeed(keys.data(), keys.size(),
                              XXH3_64bits(entries_.data(), entries_.size_bytes()));
}

std::vector<uint64_t> TarIndex::hashes_of_shards(size_t shards) const {
  std::vector<uint64_t> hashes(shards);
  for (Entry entry : entries_) {
    ASSERT(entry.shard < shards, "an index with entries out of range");
    const std::string_view key = key_of(entry);
    uint64_t& hash = hashes[entry.shard];
    entry.key_begin = 0;
    hash = XXH3_64bits_withSeed(&entry, sizeof entry, hash);
    hash = XXH3_64bits_withSeed(key.data(), key.size(), hash);
  }
  return hashes;
}

}  // namespace facet
