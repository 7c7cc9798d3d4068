#include "train/lora_alphas.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

#include "train/option_texts.h"

namespace facet {

namespace {

void add_alphas(std::string& text, std::string_view prefix, const LoraConfig& lora) {
  for (const auto& [path, own] : lora.own)
    if (own.alpha != lora.alpha) text += fmt::format("{}{} = {}\n", prefix, path, own.alpha);
}

}  // namespace

std::string own_alphas(const VlmConfig& config) {
  std::string text;
  add_alphas(text, "lang_decoder.", config.lang_lora);
  add_alphas(text, "vis_encoder.", config.vis_lora);
  return text;
}

std::string alpha_differences(const std::optional<std::string>& stored,
                              const std::optional<std::string>& now) {
  std::string differences;
  if (!stored || !now) return differences;
  const OptionTexts before = option_texts(*stored), after = option_texts(*now);
  std::set<std::string> paths;
  for (const OptionTexts* const texts : {&before, &after})
    for (const auto& [path, alpha] : *texts) paths.insert(path);
  const auto alpha_in = [](const OptionTexts& texts, const std::string& path) {
    const auto found = texts.find(path);
    return found == texts.end() ? "that of the others" : found->second;
  };
  for (const std::string& path : paths)
    if (alpha_in(before, path) != alpha_in(after, path))
      differences += fmt::format("\n  LoRA's alpha on {} was {}, is {}", path,
                                 alpha_in(before, path), alpha_in(after, path));
  return differences;
}

}  // namespace facet
