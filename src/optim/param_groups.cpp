#include "optim/param_groups.h"

#include <array>

namespace facet {
namespace {

bool contains(const std::string& name, const char* part) {
  return name.find(part) != std::string::npos;
}

bool is_no_decay(const Param& param, NoDecayRule rule) {
  if (contains(param.name, "bias") || contains(param.name, "LayerNorm.weight")) return true;
  return rule == NoDecayRule::kBiasAndNorms && param.role == ParamRole::kNormWeight;
}

}  // namespace

std::vector<ParamGroup> make_param_groups(ParamTable& table, const GroupOptions& options) {
  const double first = options.learning_rate;
  const double second = options.learning_rate_pretraining_components == 0
                            ? first
                            : options.learning_rate_pretraining_components;
  std::array<ParamGroup, 4> groups{
      ParamGroup{"decay", {}, 0, options.weight_decay, first},
      ParamGroup{"no_decay", {}, 0, 0, first},
      ParamGroup{"embed_decay", {}, 0, options.weight_decay, second},
      ParamGroup{"embed_no_decay", {}, 0, 0, second},
  };
  for (Param& param : table.params()) {
    if (!param.trained) continue;
    const size_t index =
        (contains(param.name, "embed") ? 2 : 0) + (is_no_decay(param, options.rule) ? 1 : 0);
    groups[index].params.push_back(&param);
    groups[index].elements += param.numel();
  }
  std::vector<ParamGroup> used;
  for (ParamGroup& group : groups)
    if (!group.params.empty()) used.push_back(std::move(group));
  return used;
}

}  // namespace facet
