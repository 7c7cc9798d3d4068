#include "checkpoint/model_choices.h"

#include <fmt/format.h>

namespace facet {

std::map<std::string, std::string> model_choices(const VlmConfig& config) {
  return {{"enable_mmca_attention", fmt::format("{}", config.mmca)},
          {"compat", config.compat_visualchat ? "visualchat" : "off"},
          {"vision_feature_layer", fmt::format("{}", config.vision_feature_layer)},
          {"drop_class_token", fmt::format("{}", config.drop_class_token)},
          {"image_size", fmt::format("{}", config.image_size)}};
}

std::vector<std::string> differing_choices(const VlmConfig& config,
                                           const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> differing;
  for (const auto& [option, here] : model_choices(config)) {
    const auto exported = metadata.find(option);
    if (exported != metadata.end() && exported->second != here)
      differing.push_back(fmt::format("--{}: the export was trained with {}, this run says {}",
                                      option, exported->second, here));
  }
  return differing;
}

}  // namespace facet
