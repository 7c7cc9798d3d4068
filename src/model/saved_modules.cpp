#include "model/saved_modules.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace facet {

namespace {

// As Transformers' class has it; "" for what no such class has, or nothing reads.
std::string name_in_class(const Param& param, const LlamaConfig& lm) {
  constexpr std::string_view kRoot = "lang_decoder.", kTokenTable = "model.embed_tokens.weight";
  if (param.name == "lang_embed.weight") return std::string(kTokenTable);
  if (!param.name.starts_with(kRoot) || param.role == ParamRole::kLora) return "";
  const std::string name = param.name.substr(kRoot.size());
  if (name != kTokenTable) return name;
  return lm.tie_word_embeddings ? "lm_head.weight" : "";
}

}  // namespace

bool is_in_modules(std::string_view name, const std::vector<std::string>& modules) {
  for (size_t dot = name.rfind('.'); dot != name.npos; dot = name.substr(0, dot).rfind('.')) {
    const std::string_view path = name.substr(0, dot);
    if (std::ranges::any_of(modules, [&](const std::string& end) { return path.ends_with(end); }))
      return true;
  }
  return false;
}

void mark_saved_modules(ParamTable& table, const VlmConfig& config) {
  for (Param& param : table.params()) {
    const std::string name = name_in_class(param, config.lm);
    if (is_in_modules(name, config.saved_modules)) param.saved_as = name;
  }
}

}  // namespace facet
