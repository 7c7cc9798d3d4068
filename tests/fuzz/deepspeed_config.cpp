// --deepspeed_config: read, and merged into the options.
#include "options/deepspeed_config.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const DeepSpeedConfig config =
        read_deepspeed_config(fuzz::put("deepspeed.json", fuzz::text_of(data, size)));
    Options options;
    merge_deepspeed_config(config, {"zero_stage"}, 2, options);
  });
}
