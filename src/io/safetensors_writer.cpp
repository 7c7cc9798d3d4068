#include <algorithm>

#include "base/check.h"
#include "base/half.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace facet {

namespace {

constexpr int64_t kPieceElements = int64_t{1} << 18;  // 1 MiB

int64_t numel_of(const TensorToWrite& tensor) {
  int64_t n = 1;
  for (const int64_t size : tensor.shape)
    ASSERT(size >= 0 && !__builtin_mul_overflow(n, size, &n), "{}: invalid shape", tensor.name);
  return n;
}

// As safetensors names it.
const char* stored_name(DType type) {
  ASSERT(type == DType::kF32 || is_16_bit(type), "no parameter is written as {}", name_of(type));
  if (type == DType::kF32) return "F32";
  return type == DType::kBF16 ? "BF16" : "F16";
}

std::string header_text(const std::vector<TensorToWrite>& tensors,
                        const std::map<std::string, std::string>& metadata, int64_t& data_bytes) {
  JsonWriter writer;
  writer.begin_object();
  writer.key("__metadata__").begin_object();
  writer.key("format").value("pt");
  for (const auto& [key, value] : metadata) writer.key(key).value(value);
  writer.end_object();
  data_bytes = 0;
  for (const TensorToWrite& tensor : tensors) {
    writer.key(tensor.name).begin_object();
    writer.key("dtype").value(stored_name(tensor.type));
    writer.key("shape").begin_array();
    for (const int64_t size : tensor.shape) writer.value(size);
    writer.end_array();
    writer.key("data_offsets").begin_array();
    writer.value(data_bytes);
    data_bytes += tensor.bytes();
    writer.value(data_bytes);
    writer.end_array();
    writer.end_object();
  }
  writer.end_object();
  std::string text = writer.take();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

bool name_precedes(const TensorToWrite& a, const TensorToWrite& b) { return a.name < b.name; }

// No element of a tensor lies across the alignment of its type.
bool precedes_in_file(const TensorToWrite& a, const TensorToWrite& b) {
  if (size_of(a.type) != size_of(b.type)) return size_of(a.type) > size_of(b.type);
  return name_precedes(a, b);
}

void write_values(AtomicFile& file, const TensorToWrite& tensor) {
  std::vector<float> piece(static_cast<size_t>(kPieceElements));
  std::vector<uint16_t> rounded(is_16_bit(tensor.type) ? piece.size() : 0);
  const int64_t numel = numel_of(tensor);
  for (int64_t done = 0; done < numel; done += kPieceElements) {
    const int64_t count = std::min(kPieceElements, numel - done);
    tensor.read(done, count, piece.data());
    if (rounded.empty()) {
      file.write(piece.data(), 4 * count);
    } else {
      round_to_16_bits(rounded.data(), piece.data(), count, tensor.type);
      file.write(rounded.data(), 2 * count);
    }
  }
}

// The tensors of each file, in order.
std::vector<std::vector<TensorToWrite>> shards_of(std::vector<TensorToWrite> tensors,
                                                  int64_t shard_bytes) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  int64_t bytes = 0;
  for (TensorToWrite& tensor : tensors) {
    if (bytes > 0 && bytes + tensor.bytes() > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.bytes();
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

std::string shard_name(size_t number, size_t count) {
  return fmt::format("model-{:05}-of-{:05}.safetensors", number + 1, count);
}

std::string index_text(const std::vector<std::vector<TensorToWrite>>& shards) {
  int64_t bytes = 0;
  for (const auto& shard : shards)
    for (const TensorToWrite& tensor : shard) bytes += tensor.bytes();
  JsonWriter writer;
  writer.begin_object();
  writer.key("metadata").begin_object();
  writer.key("total_size").value(bytes);
  writer.end_object();
  writer.key("weight_map").begin_object();
  for (size_t i = 0; i < shards.size(); ++i)
    for (const TensorToWrite& tensor : shards[i])
      writer.key(tensor.name).value(shard_name(i, shards.size()));
  writer.end_object();
  writer.end_object();
  return writer.take();
}

}  // namespace

int64_t TensorToWrite::bytes() const { return size_of(type) * numel_of(*this); }

void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), precedes_in_file);
  for (size_t i = 1; i < tensors.size(); ++i)
    ASSERT(tensors[i].name != tensors[i - 1].name, "{} is written twice", tensors[i].name);
  int64_t data_bytes = 0;
  const std::string header = header_text(tensors, metadata, data_bytes);
  const auto header_bytes = static_cast<uint64_t>(header.size());

  AtomicFile file(path);
  file.reserve(8 + static_cast<int64_t>(header_bytes) + data_bytes);
  file.write(&header_bytes, 8);
  file.write(header);
  for (const TensorToWrite& tensor : tensors) write_values(file, tensor);
  file.commit();
}

void write_model_safetensors(const std::string& directory, std::vector<TensorToWrite> tensors,
                             int64_t shard_bytes) {
  std::sort(tensors.begin(), tensors.end(), name_precedes);
  std::vector<std::vector<TensorToWrite>> shards = shards_of(std::move(tensors), shard_bytes);
  if (shards.size() == 1)
    return write_safetensors(directory + "/model.safetensors", std::move(shards[0]));
  write_file(directory + "/model.safetensors.index.json", index_text(shards));
  for (size_t i = 0; i < shards.size(); ++i)
    write_safetensors(directory + "/" + shard_name(i, shards.size()), std::move(shards[i]));
}

}  // namespace facet
