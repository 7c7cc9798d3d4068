#include "chat/answering_models.h"

#include <fmt/format.h>

#include <filesystem>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/adapter.h"
#include "checkpoint/checkpoint_directory.h"
#include "comm/mpi_session.h"
#include "io/llava_directory.h"
#include "options/option_table.h"
#include "options/whole_model.h"
#include "train/file_for_directory.h"

namespace facet {

namespace {

constexpr const char* kVisionModel = "vision_model_name_or_path";

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

[[noreturn]] void refuse(const std::string& path) {
  CHECK(exists(path), ExitCode::kMissingInput, "--checkpoint_names: {}: no such directory", path);
  fail(ExitCode::kMissingInput,
       "--checkpoint_names: {} is no model to answer with: an export has lang_decoder and "
       "vis_encoder in it, an adapter adapter_config.json, a model of DeepSpeed-VisualChat "
       "pytorch_model.bin, a checkpoint manifest.json, a run with checkpoints a directory of that "
       "name",
       path);
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

bool is_stored(const std::string& path) {
  return exists(path + "/manifest.json") || !published_steps(path).empty() ||
         !published_steps(path + "/checkpoints").empty();
}

// What a directory says of its model. Given options that say otherwise are mistakes.
struct Described {
  AnsweringModel model;
  std::vector<std::string> notes, mistakes;
};

void take_from_run(const StoredRun& run, const std::set<std::string>& given, Described& described) {
  Options& options = described.model.options;
  for (const char* name : {"vis_proj", "enable_mmca_attention", "image_size", "image_aspect_ratio",
                           "vision_feature_layer", "drop_class_token", "compat", "chat_template"}) {
    const OptionField& field = *find_option(name);
    const std::vector<std::string> asked = option_words(field, options);
    const std::vector<std::string> trained = option_words(field, run.options);
    if (given.contains(name) && asked != trained)
      described.mistakes.push_back(
          fmt::format("--{} {}: {} was trained with {}; leave the option out", name,
                      fmt::join(asked, " "), run.checkpoint, fmt::join(trained, " ")));
    set_option(field, trained, options);
  }
  options.lm_model_name_or_path = run.options.lm_model_name_or_path;
  options.vision_model_name_or_path = run.options.vision_model_name_or_path;
}

// A vision encoder that is not given is the run's, and not one that a whole LLaVA in place of the
// run's language model has brought.
StoredRun run_with_models_of(const std::string& path, Options options,
                             const std::set<std::string>& given) {
  if (!given.contains(kVisionModel)) options.vision_model_name_or_path.clear();
  return stored_run(path, options);
}

void describe(const std::string& path, const std::set<std::string>& given, Described& described) {
  Options& options = described.model.options;
  refuse_file(path);
  if (is_llava_directory(path)) {
    options.lm_model_name_or_path = path;
    std::set<std::string> of_this = given;
    of_this.erase(kVisionModel);  // of the other names
    described.mistakes = take_from_whole_model(of_this, options, described.notes);
  } else if (exists(path + "/lang_decoder/config.json")) {
    options.lm_model_name_or_path = path + "/lang_decoder";
    options.vision_model_name_or_path = path + "/vis_encoder";
  } else if (exists(path + "/pytorch_model.bin")) {
    need_models_of(path, options);
    options.projection = path + "/pytorch_model.bin";
  } else if (is_adapter(path)) {
    need_models_of(path, options);
    options.adapter = path;
  } else if (is_stored(path)) {
    described.model.stored = run_with_models_of(path, options, given);
    take_from_run(*described.model.stored, given, described);
  } else {
    refuse(path);
  }
}

// A run that goes on makes newer checkpoints: all ranks take the one that rank 0 finds.
std::string agreed_place(const Described& described, const std::string& path, Communicator& world) {
  std::string place = described.model.stored ? described.model.stored->checkpoint : path;
  world.broadcast(place, 0);
  return place;
}

AnsweringModel named_model(Command command, const std::string& name, const ParsedOptions& parsed,
                           Communicator& world) {
  const Options& options = parsed.options;
  const std::string path =
      options.checkpoint_path.empty() ? name : options.checkpoint_path + "/" + name;
  Described described;
  const auto describe_anew = [&](const std::string& place) {
    described = {{name, options, {}}, {}, {}};
    describe(place, parsed.given, described);
  };
  collectively(world, [&] { describe_anew(path); });
  const std::string place = agreed_place(described, path, world);
  collectively(world, [&] {
    if (described.model.stored && described.model.stored->checkpoint != place) describe_anew(place);
    std::vector<std::string>& mistakes = described.mistakes;
    if (mistakes.empty()) mistakes = contradictions(command, described.model.options, world.size());
    CHECK(mistakes.empty(), ExitCode::kConfig, "{}", fmt::join(mistakes, "\n  "));
  });
  for (const std::string& note : described.notes) log_line(note);
  return std::move(described.model);
}

}  // namespace

std::vector<AnsweringModel> answering_models(Command command, const ParsedOptions& parsed,
                                             Communicator& world) {
  const Options& options = parsed.options;
  if (options.checkpoint_names.empty()) return {{"", options, {}}};
  std::vector<AnsweringModel> models;
  for (const std::string& name : options.checkpoint_names)
    models.push_back(named_model(command, name, parsed, world));
  return models;
}

}  // namespace facet
