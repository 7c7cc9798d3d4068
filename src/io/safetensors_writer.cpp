#include <algorithm>

#include "base/check.h"
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
    writer.key("dtype").value("F32");
    writer.key("shape").begin_array();
    for (const int64_t size : tensor.shape) writer.value(size);
    writer.end_array();
    writer.key("data_offsets").begin_array();
    writer.value(data_bytes);
    data_bytes += 4 * numel_of(tensor);
    writer.value(data_bytes);
    writer.end_array();
    writer.end_object();
  }
  writer.end_object();
  std::string text = writer.take();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

void write_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorToWrite& a, const TensorToWrite& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i)
    ASSERT(tensors[i].name != tensors[i - 1].name, "{} is written twice", tensors[i].name);
  int64_t data_bytes = 0;
  const std::string header = header_text(tensors, metadata, data_bytes);
  const auto header_bytes = static_cast<uint64_t>(header.size());

  AtomicFile file(path);
  file.reserve(8 + static_cast<int64_t>(header_bytes) + data_bytes);
  file.write(&header_bytes, 8);
  file.write(header);
  std::vector<float> piece(static_cast<size_t>(kPieceElements));
  for (const TensorToWrite& tensor : tensors) {
    const int64_t numel = numel_of(tensor);
    for (int64_t done = 0; done < numel; done += kPieceElements) {
      const int64_t count = std::min(kPieceElements, numel - done);
      tensor.read(done, count, piece.data());
      file.write(piece.data(), 4 * count);
    }
  }
  file.commit();
}

}  // namespace facet
