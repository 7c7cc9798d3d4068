// The pickle of a file of torch.save(), without the zip file around it and its CRC-32, which hardly
// any mutation gets past.
#include "common/target.h"
#include "io/torch_file.h"
#include "tests/io/torch_writer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const std::string storage(256, '\1');
    const TorchFile file(
        fuzz::put("pytorch_model.bin", torch_file(std::string(fuzz::text_of(data, size)),
                                                  {storage, storage, storage.substr(0, 24)})));
    for (const auto& named : file.tensors()) {
      const StoredTensor& tensor = named.second;
      fuzz::require(tensor.numel() >= 0, "a negative number of elements");
      if (tensor.numel() > 1 << 16) continue;
      std::vector<float> numbers(static_cast<size_t>(tensor.numel()));
      fuzz::may_refuse([&] { file.read_f32(tensor.name, 0, tensor.numel(), numbers.data()); });
    }
  });
}
