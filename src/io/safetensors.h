// safetensors files: 8 bytes of header length, a JSON header, the raw little-endian tensors.
//
// The reader trusts nothing: the header is at most 100,000,000 bytes and begins with '{', no key
// twice, every product checked for overflow, the tensors cover the data without hole or overlap,
// and the file ends where they end. Tensors of any type may lie in a file; only who asks for the
// values of one needs its type to be known. Data is read with pread in pieces (no memory map: a
// file truncated while it is read gives an error message and not a signal).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.h"

namespace facet {

struct StoredTensor {
  std::string name;
  std::string type;  // as the file names it: "F32", "F8_E4M3"
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes from the beginning of the file

  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
  std::string shape_string() const;  // "(4, 128)"
  bool is_real() const;              // read_f32() takes it: F32, BF16, F16, F64
};

class SafetensorsFile {
 public:
  // Reads and checks the header only. kMissingInput, kBadData.
  explicit SafetensorsFile(std::string path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const StoredTensor* find(std::string_view name) const;  // nullptr when there is none

  // Elements [begin, begin+count) of a tensor stored as F32, BF16 or F16, converted exactly, or as
  // F64, rounded.
  void read_f32(std::string_view name, int64_t begin, int64_t count, float* out) const;
  // The same of a tensor stored as I64 or U8.
  void read_i64(std::string_view name, int64_t begin, int64_t count, int64_t* out) const;

 private:
  void check_content() const;
  void parse_header(const std::string& text, int64_t data_begin, int64_t file_bytes);
  const StoredTensor& checked_range(std::string_view name, int64_t begin, int64_t count) const;

  InputFile file_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

// The tensors of a model directory: model.safetensors, or all files that
// model.safetensors.index.json names.
class TensorDirectory {
 public:
  explicit TensorDirectory(std::string directory);
  // A single file of any name, through the same interface.
  static TensorDirectory of_file(const std::string& path);
  // Whether the directory holds a model in this format.
  static bool is_there(const std::string& directory);

  const std::string& directory() const { return directory_; }
  std::vector<std::string> names() const;                 // sorted
  const StoredTensor* find(std::string_view name) const;  // nullptr when there is none
  const std::string& path_of(std::string_view name) const;
  void read_f32(std::string_view name, int64_t begin, int64_t count, float* out) const;

 private:
  TensorDirectory() = default;
  void add_file(const std::string& path);
  void open_index(const std::string& index_path);
  const SafetensorsFile& file_of(std::string_view name) const;

  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*, std::less<>> owner_;
};

// Of a directory in which a model is missing: "; it holds FILE: what that is", for the first file
// with weights of another kind (an adapter, pickles, the original format, a shard), else "".
std::string what_lies_there_instead(const std::string& directory);

// A tensor to be written as fp32. `read` delivers elements [begin, begin+count) when they are
// written, so that no second copy of a model is needed.
struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  std::function<void(int64_t begin, int64_t count, float* out)> read;
};

// Sorted by name, data aligned to 8 bytes, `__metadata__` {"format": "pt"} plus the given entries;
// published by rename.
void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace facet
