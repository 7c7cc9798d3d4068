#include "data/image_index.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "io/file.h"
#include "io/json_member_scanner.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

struct Header {
  char magic[24] = "facet image index v1\n";
  int64_t json_bytes = 0, json_modified = 0;
  uint64_t images = 0, id_bytes = 0;
  uint64_t hash = 0;  // XXH3 of all that follows
};
static_assert(sizeof(Header) == 64 && sizeof(ImageIndex::Entry) == 32);

struct Image {
  std::string id;
  ImageIndex::Entry entry;
};

std::vector<Image> scan(const InputFile& json) {
  std::vector<Image> images;
  JsonMemberScanner scanner(json);
  while (auto member = scanner.next()) {
    const auto kind = member->is_text ? ImageIndex::Kind::kText : ImageIndex::Kind::kNoText;
    images.push_back({std::move(member->key), {0, 0, kind, member->offset, member->bytes}});
  }
  std::stable_sort(images.begin(), images.end(),
                   [](const Image& a, const Image& b) { return a.id < b.id; });
  return images;
}

// Of images with one id the first stays, and is marked.
void mark_duplicates(std::vector<Image>& images, const std::string& path) {
  size_t kept = 0, twice = 0;
  std::string example;
  for (size_t i = 0; i < images.size(); ++i) {
    if (kept > 0 && images[i].id == images[kept - 1].id) {
      images[kept - 1].entry.kind = ImageIndex::Kind::kTwice;
      if (twice++ == 0) example = images[i].id;
      continue;
    }
    if (kept != i) images[kept] = std::move(images[i]);
    ++kept;
  }
  images.resize(kept);
  if (twice > 0)
    warn("{}: {} ids of images occur again, the first is {}; a sample that shows one is bad", path,
         twice, example);
}

std::string build(const InputFile& json) {
  log("{}: {} bytes are read once, for an index of the images in it", json.path(), json.bytes());
  std::vector<Image> images = scan(json);
  mark_duplicates(images, json.path());
  std::string entries, ids;
  for (Image& image : images) {
    image.entry.id_begin = ids.size();
    image.entry.id_bytes = static_cast<uint32_t>(image.id.size());
    ids += image.id;
    entries.append(reinterpret_cast<const char*>(&image.entry), sizeof image.entry);
  }
  const std::string body = entries + ids;
  Header header;
  header.json_bytes = json.bytes();
  header.json_modified = json.modified();
  header.images = images.size();
  header.id_bytes = ids.size();
  header.hash = XXH3_64bits(body.data(), body.size());
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + body;
}

std::string path_of(const InputFile& json, const std::string& directory) {
  return directory + "/" + fs::path(json.path()).filename().string() + ".index";
}

// Whether these bytes are the whole index of this file.
bool is_index_of(const InputFile& json, std::string_view bytes) {
  Header header, expected;
  if (bytes.size() < sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::string_view body = bytes.substr(sizeof header);
  return std::memcmp(header.magic, expected.magic, sizeof header.magic) == 0 &&
         header.json_bytes == json.bytes() && header.json_modified == json.modified() &&
         header.images <= body.size() / sizeof(ImageIndex::Entry) &&
         header.id_bytes == body.size() - header.images * sizeof(ImageIndex::Entry) &&
         header.hash == XXH3_64bits(body.data(), body.size());
}

}  // namespace

ImageIndex::ImageIndex(const InputFile& json, const std::string& directory) {
  if (!map(json, directory) && !map(json, directory_of(json.path()))) built_ = build(json);
  const std::string_view bytes = mapped_ ? mapped_->bytes() : std::string_view(built_);
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  entries_ = {reinterpret_cast<const Entry*>(bytes.data() + sizeof header), header.images};
  ids_ = bytes.substr(sizeof header + header.images * sizeof(Entry));
}

bool ImageIndex::map(const InputFile& json, const std::string& directory) {
  const std::string path = path_of(json, directory);
  std::error_code ignored;
  if (directory.empty() || !fs::is_regular_file(path, ignored)) return false;
  mapped_.emplace(InputFile(path));
  if (!is_index_of(json, mapped_->bytes())) mapped_.reset();
  return mapped_.has_value();
}

void ImageIndex::keep(const InputFile& json, const std::string& directory) {
  const ImageIndex index(json, directory);
  if (index.is_mapped()) return;
  make_directories(directory);
  const std::string path = path_of(json, directory);
  const std::string name = fs::path(path).filename().string();
  const std::string_view own[] = {name};
  tidy_directory(directory, own);
  write_file(path, index.built_);
}

std::string_view ImageIndex::id_of(const Entry& entry) const {
  ASSERT(entry.id_begin + entry.id_bytes <= ids_.size(), "an index with entries out of range");
  return ids_.substr(entry.id_begin, entry.id_bytes);
}

std::optional<ImageIndex::Entry> ImageIndex::find(std::string_view id) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), id,
      [this](const Entry& entry, std::string_view wanted) { return id_of(entry) < wanted; });
  if (found == entries_.end() || id_of(*found) != id) return std::nullopt;
  return *found;
}

uint64_t ImageIndex::hash_of_ids() const { return XXH3_64bits(ids_.data(), ids_.size()); }

}  // namespace facet
