// adapter_config.json beside the matrices of two modules.
#include <fmt/format.h>

#include <vector>

#include "checkpoint/adapter.h"
#include "common/target.h"
#include "io/safetensors.h"

namespace facet {
namespace {

bool write_matrices() {
  std::vector<TensorToWrite> tensors;
  for (const char* module : {"q_proj", "v_proj"})
    for (const char* matrix : {"lora_A", "lora_B"})
      tensors.push_back(
          {fmt::format("base_model.model.model.layers.0.self_attn.{}.{}.weight", module, matrix),
           {2, 2},
           [](int64_t, int64_t count, float* out) {
             for (int64_t i = 0; i < count; ++i) out[i] = 1;
           }});
  write_safetensors(fuzz::scratch() + "/adapter_model.safetensors", std::move(tensors));
  return true;
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  static const bool matrices = write_matrices();
  fuzz::require(matrices, "no matrices");
  return fuzz::may_refuse([&] {
    fuzz::put("adapter_config.json", fuzz::text_of(data, size));
    const Adapter adapter = read_adapter(fuzz::scratch());
    fuzz::require(
        adapter.lang && adapter.lang->lora.rank > 0 && adapter.lang->lora.modules.size() == 2,
        "an adapter without LoRA");
    for (const auto& [path, own] : adapter.lang->lora.own)
      fuzz::require(own.rank > 0 && adapter.lang->lora.modules.contains(path),
                    "LoRA of a module of its own that it can't have");
    for (const std::string& name : adapter.lang->saved_modules)
      fuzz::require(!name.empty(), "a saved module without a name");
  });
}
