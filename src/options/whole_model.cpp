#include "options/whole_model.h"

#include <fmt/format.h>

#include "base/printable.h"
#include "io/llava_directory.h"
#include "options/option_table.h"

namespace facet {

namespace {

// The form of conversations of Vicuna, with which LLaVA 1.5 was made. Other decoders come from
// other chat models. What an adapter or a projection's file records is looked up when these are
// read.
std::string chat_template_of(const LlavaChoices& choices, const Options& options) {
  if (options.visualchat() || !options.adapter.empty() || !options.projection.empty()) return "";
  if (!choices.chat_template.empty()) return choices.chat_template;
  return choices.text_type == "llama" ? "vicuna" : "";
}

// Of the option the words that the model asks for, and those that stand.
struct Choice {
  const OptionField& field;
  std::string asked, stands;
};

Choice choice_of(const char* name, const std::string& word, const Options& options) {
  const OptionField& field = *find_option(name);
  return {field, word, option_words(field, options)[0]};
}

}  // namespace

std::vector<std::string> take_from_whole_model(const std::set<std::string>& given, Options& options,
                                               std::vector<std::string>& notes) {
  const std::string& directory = options.lm_model_name_or_path;
  if (directory.empty() || !is_llava_directory(directory)) return {};
  const LlavaChoices model = read_llava_choices(directory);
  std::vector<std::string> mistakes;
  std::string taken;
  const auto take = [&](const char* name, const std::string& word, bool must_agree) {
    const Choice choice = choice_of(name, word, options);
    if (given.contains(name)) {
      if (must_agree && choice.stands != choice.asked)
        mistakes.push_back(fmt::format("--{} {}: the model in {} has {}; leave the option out",
                                       name, choice.stands, printable(directory), choice.asked));
      return;
    }
    set_option(choice.field, {word}, options);
    taken += fmt::format(" --{} {}", name, word);
  };
  take("vis_proj", "mlp2x_gelu", true);
  take("vision_feature_layer", fmt::format("{}", model.vision_feature_layer), true);
  take("drop_class_token", model.drop_class_token ? "true" : "false", true);
  if (const std::string form = chat_template_of(model, options); !form.empty())
    take("chat_template", form, false);
  if (!given.contains("vision_model_name_or_path")) options.vision_model_name_or_path = directory;
  notes.push_back(fmt::format("{} is a whole LLaVA model:{}", printable(directory), taken));
  return mistakes;
}

}  // namespace facet
