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

#include "base/dtype.h"
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

// A tensor to be written. `read` delivers elements [begin, begin+count) when they are written, so
// that no second copy of a model is needed; they are rounded once to `type`: fp32, bf16 or fp16.
struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  std::function<void(int64_t begin, int64_t count, float* out)> read;
  DType type = DType::kF32;

  int64_t bytes() const;
};

// Sorted by element size, large ones first, so that all are aligned, and by name; `__metadata__`
// {"format": "pt"} plus the given entries; published by rename.
void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata = {});

// What Transformers takes for the most that a file of a model should hold.
constexpr int64_t kShardBytes = 5'000'000'000;

// model.safetensors; or, of more than shard_bytes, model-00001-of-0000N.safetensors and so on and
// model.safetensors.index.json, as Transformers' save_pretrained() makes them. A shard holds more
// only if it holds a single tensor.
void write_model_safetensors(const std::string& directory, std::vector<TensorToWrite> tensors,
                             int64_t shard_bytes = kShardBytes);

}  // namespace facet
