// The command-line options that change what a model computes but not the shape of any tensor:
// attention over images, the feature layer, ... An export records them, so that it is not used with
// others by mistake.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/config.h"

namespace facet {

// Option name to value, as in the metadata of projection.safetensors.
std::map<std::string, std::string> model_choices(const VlmConfig& config);

// Where the metadata of an exported file differs from this run, one text each:
// "--enable_mmca_attention: the export was trained with true, this run says false". Metadata
// without choices (not our export) give no differences.
std::vector<std::string> differing_choices(const VlmConfig& config,
                                           const std::map<std::string, std::string>& metadata);

// The name under which an export records the form of its conversations.
constexpr const char* kChatTemplate = "chat_template";

}  // namespace facet
