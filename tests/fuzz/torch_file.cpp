// A file of torch.save(); every tensor is read whole, or in part if it is large.
#include <algorithm>
#include <vector>

#include "common/target.h"
#include "io/torch_file.h"

namespace facet {
namespace {

void read_tensor(const TorchFile& file, const StoredTensor& tensor) {
  constexpr int64_t kMost = 1 << 16;
  const int64_t count = std::min(tensor.numel(), kMost);
  fuzz::require(count >= 0, "a negative number of elements");
  if (!tensor.strides.empty() && tensor.numel() > kMost) return;  // the order of memory needs all
  std::vector<float> numbers(static_cast<size_t>(count));
  std::vector<int64_t> integers(static_cast<size_t>(count));
  fuzz::may_refuse(
      [&] { file.read_f32(tensor.name, tensor.numel() - count, count, numbers.data()); });
  fuzz::may_refuse([&] { file.read_i64(tensor.name, 0, count, integers.data()); });
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const TorchFile file(fuzz::put("pytorch_model.bin", fuzz::text_of(data, size)));
    for (const auto& [name, tensor] : file.tensors()) read_tensor(file, tensor);
  });
}
