// A conversation as users write it:
//   {"image": "a.jpg", "conversations": [{"from": "human", "value": "What is it?\n<image>"},
//                                        {"from": "gpt", "value": "A cat."}, ...]}
//   {"image": ["a.jpg", "b.jpg"], "messages": [{"role": "user", "content": "..."},
//                                              {"role": "assistant", "content": "..."}, ...]}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"
#include "io/json.h"

namespace facet {

// Member `image`: absent, null or "", a string, or a list of strings.
std::vector<std::string_view> image_names_of(const JsonValue& record);

bool has_conversation(const JsonValue& record);

// `human` and `user` ask, `gpt` and `assistant` answer, by turns; a first turn of `system` is the
// sample's system text; a last question without an answer is left out. Each <image> of a question
// stands for the next image; without any, all images stand before the first question. Anything else
// is JsonValue::reject().
RawSample conversation_of(const JsonValue& record, const std::vector<ImageRef>& images);

}  // namespace facet
