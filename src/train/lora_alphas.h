// The alphas of single modules, which an adapter gives and no option: a run that continues must
// have them again. Ranks show in the shapes of what was trained.
#pragma once

#include <optional>
#include <string>

#include "model/config.h"

namespace facet {

// A line "PATH = ALPHA" of each module whose alpha is not that of the options, by path, such as
// "lang_decoder.model.layers.0.self_attn.q_proj = 16".
std::string own_alphas(const VlmConfig& config);

// What differs: lines that begin with "\n  "; empty if nothing does, or if one of the two is not
// known.
std::string alpha_differences(const std::optional<std::string>& stored,
                              const std::optional<std::string>& now);

}  // namespace facet
