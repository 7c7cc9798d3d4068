// added_tokens.json beside a tokenizer.model.
#include "common/target.h"
#include "data/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  static const std::string model =
      fuzz::put("tokenizer.model", fuzz::fixture("tests/golden/data/tokenizer.model"));
  return fuzz::may_refuse([&] {
    fuzz::put("added_tokens.json", fuzz::text_of(data, size));
    const Tokenizer tokenizer(fuzz::scratch(), PromptStyle::kVisualChat);
    for (const auto& [text, id] : tokenizer.added_tokens())
      fuzz::require(id >= 0 && id < tokenizer.vocab_size() && !tokenizer.encode(text).empty(),
                    "an added token that is not in the vocabulary");
  });
}
