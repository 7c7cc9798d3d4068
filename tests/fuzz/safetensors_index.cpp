// model.safetensors.index.json beside two shards, of one tensor each.
#include <vector>

#include "common/target.h"
#include "io/safetensors.h"
#include "io/tensor_directory.h"

namespace facet {
namespace {

void write_shard(const std::string& name, const std::string& tensor) {
  write_safetensors(fuzz::scratch() + "/" + name,
                    {{tensor, {2}, [](int64_t, int64_t count, float* out) {
                        for (int64_t i = 0; i < count; ++i) out[i] = 1;
                      }}});
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  static const bool shards =
      (write_shard("a.safetensors", "one"), write_shard("b.safetensors", "two"), true);
  fuzz::require(shards, "no shards");
  return fuzz::may_refuse([&] {
    fuzz::put("model.safetensors.index.json", fuzz::text_of(data, size));
    const TensorDirectory directory(fuzz::scratch());
    for (const std::string& name : directory.names()) {
      std::vector<float> numbers(static_cast<size_t>(directory.find(name)->numel()));
      directory.read_f32(name, 0, directory.find(name)->numel(), numbers.data());
    }
  });
}
