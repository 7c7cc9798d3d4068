// The choices of the command line that change what a model computes but not the shape of any
// tensor: attention over images, the feature layer, ... An export carries them, so that it is not
// used by mistake in another way.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/config.h"

namespace facet {

// Option name to value, as they stand in the metadata of projection.safetensors.
std::map<std::string, std::string> model_choices(const VlmConfig& config);

// What the metadata of an exported file says otherwise than this run, one text each:
// "--enable_mmca_attention: the export was trained with true, this run says false". Metadata
// without choices (not an export of ours) give none.
std::vector<std::string> differing_choices(const VlmConfig& config,
                                           const std::map<std::string, std::string>& metadata);

}  // namespace facet
