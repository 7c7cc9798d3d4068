// What of a prompt depends on whose prompts are reproduced.
#pragma once

#include <cstdint>

namespace facet {

// Whose prompts and token ids are reproduced (--compat).
enum class PromptStyle : uint8_t { kCorrect, kVisualChat };

// --compat visualchat: when the number of an image comes into the header of a round that shows one.
// It belongs to the data set, and changes the ids.
enum class ImageNumbers : uint8_t {
  kAfterEncoding,  // the header is one added token, which number and all then replace
  kInText,         // the numbered header is encoded as the text it is
};

}  // namespace facet
