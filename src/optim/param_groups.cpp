#include "optim/param_groups.h"

namespace facet {
namespace {

bool contains(const std::string& name, const char* part) {
  return name.find(part) != std::string::npos;
}

bool is_no_decay(const Param& param, NoDecayRule rule) {
  if (contains(param.name, "bias") || contains(param.name, "LayerNorm.weight")) return true;
  return rule == NoDecayRule::kBiasAndNorms && param.role == ParamRole::kNormWeight;
}

// L of nn/linear.h, which is B in the papers and in PEFT.
bool is_second_of_lora(const Param& param) {
  return param.role == ParamRole::kLora && param.name.ends_with(".lora_left_weight");
}

}  // namespace

std::vector<ParamGroup> make_param_groups(ParamTable& table, const GroupOptions& options) {
  const double first = options.learning_rate;
  const double second = options.learning_rate_pretraining_components == 0
                            ? first
                            : options.learning_rate_pretraining_components;
  std::vector<ParamGroup> groups{
      ParamGroup{"decay", {}, 0, options.weight_decay, first},
      ParamGroup{"no_decay", {}, 0, 0, first},
      ParamGroup{"embed_decay", {}, 0, options.weight_decay, second},
      ParamGroup{"embed_no_decay", {}, 0, 0, second},
  };
  const size_t kinds = groups.size();
  for (size_t i = 0; i < kinds; ++i) {
    ParamGroup apart = groups[i];
    apart.name += "_lora_b";
    apart.learning_rate *= options.lora_plus_ratio;
    groups.push_back(std::move(apart));
  }
  for (Param& param : table.params()) {
    if (!param.trained) continue;
    const bool apart = options.lora_plus_ratio != 1 && is_second_of_lora(param);
    const size_t index = (apart ? kinds : 0) + (contains(param.name, "embed") ? 2 : 0) +
                         (is_no_decay(param, options.rule) ? 1 : 0);
    groups[index].params.push_back(&param);
    groups[index].elements += param.numel();
  }
  std::vector<ParamGroup> used;
  for (ParamGroup& group : groups)
    if (!group.params.empty()) used.push_back(std::move(group));
  return used;
}

}  // namespace facet
