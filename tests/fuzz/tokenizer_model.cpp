// tokenizer.model: a SentencePiece model, with which a text is then encoded and decoded.
#include "common/target.h"
#include "data/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    fuzz::put("tokenizer.model", fuzz::text_of(data, size));
    const Tokenizer tokenizer(fuzz::scratch(), PromptStyle::kVisualChat);
    const std::vector<int32_t> ids =
        tokenizer.encode("### Image: <image>\n\"a cat,  \u00e4\u732b\"</s>");
    for (const int32_t id : ids)
      fuzz::require(id >= 0 && id < tokenizer.vocab_size(), "an id beyond the vocabulary");
    tokenizer.decode(ids);
  });
}
