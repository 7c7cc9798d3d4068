#include "options/whole_model.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/printable.h"
#include "io/llava_directory.h"
#include "options/option_table.h"

namespace facet {

namespace {

// Whether a file with a projection may say with which form of conversations it was trained, which
// is looked up when it is read.
bool reads_projection_file(const Options& options) {
  std::error_code ignored;
  return !options.projection.empty() ||
         (!options.adapter.empty() &&
          std::filesystem::exists(options.adapter + "/projection.safetensors", ignored));
}

// The form of conversations that the model was trained with. LLaVA 1.5 was made with Vicuna's;
// other decoders come from other chat models.
std::string chat_template_of(const LlavaChoices& choices, const Options& options) {
  if (options.visualchat() || reads_projection_file(options)) return "";
  if (!choices.chat_template.empty()) return choices.chat_template;
  return choices.text_type == "llama" ? "vicuna" : "";
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
    const OptionField& field = *find_option(name);
    if (!given.contains(name)) {
      if (const std::string wrong = set_option(field, {word}, options); !wrong.empty())
        mistakes.push_back(
            fmt::format("{}/config.json: --{}: {}", printable(directory), name, wrong));
      taken += fmt::format(" --{} {}", name, word);
    } else if (const std::string stands = option_words(field, options)[0];
               must_agree && stands != word) {
      mistakes.push_back(fmt::format("--{} {}: the model in {} has {}; leave the option out", name,
                                     stands, printable(directory), word));
    }
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
