#include "data/image_index.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "io/json_member_scanner.h"

namespace facet {

namespace fs = std::filesystem;

namespace {

static_assert(sizeof(ImageIndex::Entry) == 32);

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

IndexBody build(const InputFile& json) {
  std::vector<Image> images = scan(json);
  mark_duplicates(images, json.path());
  std::string entries, ids;
  for (Image& image : images) {
    image.entry.id_begin = ids.size();
    image.entry.id_bytes = static_cast<uint32_t>(image.id.size());
    ids += image.id;
    entries.append(reinterpret_cast<const char*>(&image.entry), sizeof image.entry);
  }
  return {images.size(), entries + ids};
}

IndexSubject subject_of(const InputFile& json, const std::string& directory) {
  return {"facet image index v1\n",
          sizeof(ImageIndex::Entry),
          json.path(),
          json.bytes(),
          json.modified(),
          directory,
          fs::path(json.path()).filename().string() + ".index",
          json.path() + ".index"};
}

}  // namespace

ImageIndex::ImageIndex(const InputFile& json, const std::string& directory)
    : kept_(subject_of(json, directory), [&] { return build(json); }),
      entries_(static_cast<const Entry*>(kept_.entries()), kept_.num_entries()),
      ids_(kept_.rest()) {}

void ImageIndex::keep(const InputFile& json, const std::string& directory) {
  KeptIndex::keep(subject_of(json, directory), [&] { return build(json); });
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
