#include "chat/answering_models.h"

#include <filesystem>

#include "base/check.h"
#include "checkpoint/adapter.h"
#include "io/llava_directory.h"
#include "options/whole_model.h"

namespace facet {

namespace {

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

[[noreturn]] void refuse(const std::string& path) {
  CHECK(exists(path), ExitCode::kMissingInput, "--checkpoint_names: {}: no such directory", path);
  const bool checkpoint = exists(path + "/manifest.json") || exists(path + "/checkpoints");
  fail(ExitCode::kMissingInput,
       "--checkpoint_names: {} is no model to answer with: an export has lang_decoder and "
       "vis_encoder in it, an adapter adapter_config.json, a model of DeepSpeed-VisualChat "
       "pytorch_model.bin{}",
       path,
       checkpoint
           ? fmt::format("; \"facet export {} --to DIR\" makes an export of the checkpoint", path)
           : "");
}

// The models that an adapter or a file of trained weights goes on top of.
void need_models_of(const std::string& path, const Options& options) {
  CHECK(
      !options.lm_model_name_or_path.empty() && (!options.vision_model_name_or_path.empty() ||
                                                 is_llava_directory(options.lm_model_name_or_path)),
      ExitCode::kUsage,
      "--checkpoint_names: {} belongs to two other models; name them with "
      "--lm_model_name_or_path and --vision_model_name_or_path",
      path);
}

Options options_of(const std::string& path, Options options, std::vector<std::string>& notes) {
  if (is_llava_directory(path)) {
    options.lm_model_name_or_path = path;
    const std::vector<std::string> mistakes = take_from_whole_model({}, options, notes);
    CHECK(mistakes.empty(), ExitCode::kConfig, "{}", fmt::join(mistakes, "\n  "));
  } else if (exists(path + "/lang_decoder/config.json")) {
    options.lm_model_name_or_path = path + "/lang_decoder";
    options.vision_model_name_or_path = path + "/vis_encoder";
  } else if (exists(path + "/pytorch_model.bin")) {
    need_models_of(path, options);
    options.projection = path + "/pytorch_model.bin";
  } else if (is_adapter(path)) {
    need_models_of(path, options);
    options.adapter = path;
  } else {
    refuse(path);
  }
  return options;
}

}  // namespace

std::vector<AnsweringModel> answering_models(const Options& options,
                                             std::vector<std::string>& notes) {
  if (options.checkpoint_names.empty()) return {{"", options}};
  std::vector<AnsweringModel> models;
  for (const std::string& name : options.checkpoint_names) {
    const std::string path =
        options.checkpoint_path.empty() ? name : options.checkpoint_path + "/" + name;
    models.push_back({name, options_of(path, options, notes)});
  }
  return models;
}

}  // namespace facet
