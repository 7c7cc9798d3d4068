// tokenizer.json beside a tokenizer.model.
#include "common/tokenizer_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse(
      [&] { fuzz::use_tokenizer_with("tokenizer.json", fuzz::text_of(data, size)); });
}
