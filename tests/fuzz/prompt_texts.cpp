// --system_prompt_file and --caption_questions_file.
#include "data/prompt_texts.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string path = fuzz::put("texts.txt", fuzz::text_of(data, size));
  fuzz::may_refuse([&] { load_system_text(path); });
  return fuzz::may_refuse(
      [&] { fuzz::require(!load_caption_questions(path).empty(), "no question, and no error"); });
}
