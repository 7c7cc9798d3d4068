// config.json of a vision model.
#include "checkpoint/hugging_face.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    fuzz::put("config.json", fuzz::text_of(data, size));
    const VisionConfig config = read_vision_config(fuzz::scratch());
    fuzz::require(config.grid() > 0 && config.hidden_size % config.num_attention_heads == 0,
                  "a model without a size");
  });
}
