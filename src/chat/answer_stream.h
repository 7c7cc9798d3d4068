// An answer's text while it grows: what can be shown because no later token changes it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "chat/round_pieces.h"

namespace facet {

// How much of the beginning of that text stays whatever follows: not half a character (which a
// tokenizer decodes as U+FFFD, or as bytes that are no UTF-8), not what may become one of the stop
// strings, and no blanks that may turn out to be its end.
size_t settled_length(std::string_view text, std::span<const std::string> stop_strings);

class AnswerStream {
 public:
  // The pieces must outlive it.
  explicit AnswerStream(const RoundPieces& pieces) : pieces_(pieces) {}

  // What has settled since the last call; `ids`: the answer so far.
  std::string grown(std::span<const int32_t> ids);
  // What is still missing of the complete answer.
  std::string rest(const std::string& answer) const {
    return answer.substr(std::min(told_, answer.size()));
  }

 private:
  const RoundPieces& pieces_;
  size_t told_ = 0;  // bytes
};

}  // namespace facet
