// safetensors files: 8 bytes of header length, a JSON header, the raw little-endian tensors.
//
// The reader trusts nothing: the header is at most 100,000,000 bytes and begins with '{', no key
// twice, every product checked for overflow, the tensors cover the data without hole or overlap,
// and the file ends where they end. Tensors of any type may lie in a file; only who asks for the
// values of one needs its type to be known.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/tensor_file.h"

namespace facet {

class SafetensorsFile : public TensorFile {
 public:
  // Reads and checks the header only. kMissingInput, kBadData.
  explicit SafetensorsFile(std::string path);

 private:
  void check_content() const;
  void parse_header(const std::string& text, int64_t data_begin, int64_t file_bytes);
};

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
