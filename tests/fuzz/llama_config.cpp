// config.json of a language model.
#include "checkpoint/hugging_face.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    fuzz::put("config.json", fuzz::text_of(data, size));
    const LlamaConfig config = read_llama_config(fuzz::scratch());
    fuzz::require(config.hidden_size > 0 && config.vocab_size > 0 && config.head_dim > 0 &&
                      config.num_attention_heads % config.num_key_value_heads == 0,
                  "a model without a size");
    fuzz::require(config.window_layers.empty() ||
                      static_cast<int64_t>(config.window_layers.size()) == config.num_hidden_layers,
                  "windows of other layers than the model has");
  });
}
