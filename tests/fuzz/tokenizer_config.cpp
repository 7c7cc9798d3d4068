// tokenizer_config.json beside a tokenizer.model.
#include "common/target.h"
#include "data/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  static const std::string model =
      fuzz::put("tokenizer.model", fuzz::fixture("tests/golden/data/tokenizer.model"));
  return fuzz::may_refuse([&] {
    fuzz::put("tokenizer_config.json", fuzz::text_of(data, size));
    const Tokenizer tokenizer(fuzz::scratch(), PromptStyle::kVisualChat);
    for (const int32_t id : tokenizer.encode("<s> a <image> b"))
      fuzz::require(id >= 0 && id < tokenizer.vocab_size(), "an id beyond the vocabulary");
  });
}
