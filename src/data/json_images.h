// Images in one JSON file, {id: base64 text of a JPEG, PNG or WebP file, ...}. Only the index is in
// memory; an image is read from its place when it is used.
#pragma once

#include <string>

#include "data/dataset.h"
#include "data/image_index.h"
#include "data/image_source.h"
#include "io/input_file.h"

namespace facet {

class JsonImages : public ImageSource {
 public:
  JsonImages(const std::string& path, const std::string& index_directory)
      : file_(path), index_(file_, index_directory) {}

  bool contains(std::string_view id) const { return index_.find(id).has_value(); }
  ImageRef at(std::string_view id) const { return {this, std::string(id)}; }
  uint64_t fingerprint() const { return index_.hash_of_ids(); }
  SourceFile file() const {
    return {file_.path(), file_.bytes(), file_.modified(), fingerprint(),
            SourceFile::Hashed::kIndex};
  }

  std::string name_of(const std::string& id) const override;
  std::string read(const std::string& id) const override;

 private:
  InputFile file_;
  ImageIndex index_;
};

}  // namespace facet
