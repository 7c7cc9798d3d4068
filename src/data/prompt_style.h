// What of a prompt depends on whose prompts are reproduced.
#pragma once

#include <cstdint>

namespace facet {

// Whose prompts and token ids are reproduced (--compat).
enum class PromptStyle : uint8_t { kCorrect, kVisualChat };

// --compat visualchat: when the numbers of images come into the headers of a round. In training it
// belongs to the data set, in generation to the tool whose answers are reproduced. It changes the
// ids.
enum class ImageNumbers : uint8_t {
  kAfterEncoding,  // of one image: the header is one added token, which number and all then replace
  kInText,         // the numbered header is encoded as the text it is, as chat.py does
  kCountAtFirst,   // as batch_generation.py does: the first header, one added token, is replaced by
                   // one with the number of images so far; further ones stay without a number
};

}  // namespace facet
