// A file of named tensors, whatever its format: what a reader of one kind (io/safetensors.h,
// io/torch_file.h) found in it, and the values, read with pread in pieces when they are asked for
// (no memory map: a file truncated while it is read gives an error message and not a signal).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.h"

namespace facet {

struct StoredTensor {
  std::string name;
  std::string type;  // as safetensors names it: "F32", "F8_E4M3"
  std::vector<int64_t> shape;
  int64_t begin = 0;  // of the first element, in bytes from the beginning of the file
  // Elements from one to the next in each dimension; empty: row after row without gaps.
  std::vector<int64_t> strides = {};

  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
  std::string shape_string() const;  // "(4, 128)"
  bool is_real() const;              // read_f32() takes it: F32, BF16, F16, F64
};

class TensorFile {
 public:
  virtual ~TensorFile() = default;
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const StoredTensor* find(std::string_view name) const;  // nullptr when there is none

  // Elements [begin, begin+count) of a tensor stored as F32, BF16 or F16, converted exactly, or as
  // F64, rounded. A view with strides is put in order, in little memory.
  void read_f32(std::string_view name, int64_t begin, int64_t count, float* out) const;
  // The same of a tensor stored as I64 or U8, without strides.
  void read_i64(std::string_view name, int64_t begin, int64_t count, int64_t* out) const;

 protected:
  explicit TensorFile(std::string path) : file_(std::move(path)) {}
  // What must hold before values of this tensor are read; kBadData.
  virtual void check_before_reading(const StoredTensor&) const {}

  InputFile file_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;

 private:
  const StoredTensor& checked_range(std::string_view name, int64_t begin, int64_t count) const;
  void read_run(const StoredTensor& tensor, int64_t begin, int64_t count, float* out) const;
  void read_view(const StoredTensor& tensor, int64_t begin, int64_t count, float* out) const;
};

}  // namespace facet
