// The tensors of a model directory, in whichever of the formats it has them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/tensor_file.h"

namespace facet {

// Of a directory the first that is there of model.safetensors, model.safetensors.index.json with
// its shards, pytorch_model.bin, pytorch_model.bin.index.json with its shards: the order of
// Transformers.
class TensorDirectory {
 public:
  // kMissingInput, kBadData.
  explicit TensorDirectory(std::string directory);
  // A single file of any name and of either format, through the same interface.
  static TensorDirectory of_file(const std::string& path);
  // The same tensors under other names; those whose new name is "" are left out. Two tensors of one
  // name: kBadData.
  TensorDirectory renamed(const std::function<std::string(const std::string&)>& new_name) &&;
  // Whether the directory holds a model in one of the formats.
  static bool is_there(const std::string& directory);

  const std::string& directory() const { return directory_; }
  const std::string& source() const { return source_; }  // the file or the index that was read
  // Of the files above the one that lies beside it without being read; "" if there is none.
  std::string not_read() const;
  std::vector<std::string> names() const;                 // sorted
  const StoredTensor* find(std::string_view name) const;  // nullptr when there is none
  const std::string& path_of(std::string_view name) const;
  void read_f32(std::string_view name, int64_t begin, int64_t count, float* out) const;
  // Of the first file; {} when there is none.
  const std::map<std::string, std::string>& metadata() const;

 private:
  TensorDirectory() = default;
  void add_file(std::unique_ptr<TensorFile> file);
  void open_index();
  struct Place {
    const TensorFile* file;
    std::string name;  // there
  };
  const Place& place_of(std::string_view name) const;

  std::string directory_, source_;
  std::vector<std::unique_ptr<TensorFile>> files_;
  std::map<std::string, Place, std::less<>> places_;
};

// Of a directory in which a model is missing: "; it holds FILE: what that is", for the first file
// with weights of another kind (an adapter, the original format, a shard), else "".
std::string what_lies_there_instead(const std::string& directory);

}  // namespace facet
