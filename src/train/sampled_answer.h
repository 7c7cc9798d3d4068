// A question of --sample_prompts, and what the model answered.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

struct Question {
  std::string text;
  std::vector<std::string> images;  // paths
};

struct SampledAnswer {
  std::string text = {};
  int64_t tokens = 0;  // without the end token
  double seconds = 0;
  std::string stop_reason = {};  // as facet generate names them; "error": there is no answer
  std::string error = {};        // why
};

}  // namespace facet
