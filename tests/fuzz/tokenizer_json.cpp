// tokenizer.json beside a tokenizer.model, which has its added tokens read, and alone: then it is
// the tokenizer, with which texts are encoded and decoded, the file's own among them.
#include "base/utf8.h"
#include "common/tokenizer_files.h"

namespace facet {
namespace {

void use_alone(std::string_view content) {
  fuzz::put("alone/tokenizer_config.json", R"({"eos_token": "</s>"})");
  fuzz::put("alone/tokenizer.json", content);
  const Tokenizer tokenizer(fuzz::scratch() + "/alone", PromptStyle::kVisualChat);
  for (const std::string_view text :
       {std::string_view("### Image: <image>\n\"a cat's  12345 \u00e4\u732be\u0301\"</s>\r\n\n"),
        is_utf8(content) ? content : std::string_view()}) {
    const std::vector<int32_t> ids = tokenizer.encode(text);
    for (const int32_t id : ids)
      fuzz::require(id >= 0 && id < tokenizer.vocab_size(), "an id beyond the vocabulary");
    fuzz::require(is_utf8(tokenizer.decode(ids)), "decoded text that is no UTF-8");
    fuzz::require(!tokenizer.exceeds(text, static_cast<int64_t>(ids.size())),
                  "a text that is called longer than it is");
  }
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string_view content = fuzz::text_of(data, size);
  fuzz::may_refuse([&] { fuzz::use_tokenizer_with("tokenizer.json", content); });
  return fuzz::may_refuse([&] { use_alone(content); });
}
