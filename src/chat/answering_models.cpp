#include "chat/answering_models.h"

#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/adapter.h"
#include "checkpoint/checkpoint_directory.h"
#include "comm/mpi_session.h"
#include "io/llava_directory.h"
#include "options/option_table.h"
#include "options/whole_model.h"

namespace facet {

namespace {

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

// What the run says of the model. Options that say otherwise are told; whether one that says what
// stands without it was given is not known.
void take_from_run(const StoredRun& run, Options& options, std::vector<std::string>& mistakes) {
  for (const char* name : {"vis_proj", "enable_mmca_attention", "image_size", "image_aspect_ratio",
                           "vision_feature_layer", "drop_class_token", "compat", "chat_template"}) {
    const OptionField& field = *find_option(name);
    const std::vector<std::string> given = option_words(field, options);
    const std::vector<std::string> trained = option_words(field, run.options);
    if (given == trained) continue;
    if (given != option_words(field, Options{}))
      mistakes.push_back(fmt::format("--{} {}: {} was trained with {}; leave the option out", name,
                                     fmt::join(given, " "), run.checkpoint,
                                     fmt::join(trained, " ")));
    set_option(field, trained, options);
  }
  options.lm_model_name_or_path = run.options.lm_model_name_or_path;
  options.vision_model_name_or_path = run.options.vision_model_name_or_path;
}

// What a directory says of its model.
struct Described {
  AnsweringModel model;
  std::vector<std::string> notes, mistakes;
};

void describe(const std::string& path, Described& described) {
  Options& options = described.model.options;
  if (is_llava_directory(path)) {
    options.lm_model_name_or_path = path;
    described.mistakes = take_from_whole_model({}, options, described.notes);
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
    described.model.stored = stored_run(path, options);
    take_from_run(*described.model.stored, options, described.mistakes);
  } else {
    refuse(path);
  }
}

// A run that goes on makes newer checkpoints: all ranks take the one that rank 0 finds.
void agree(StoredRun& run, const Options& given, Communicator& world) {
  std::string checkpoint = run.checkpoint;
  world.broadcast(checkpoint, 0);
  collectively(world, [&] {
    if (checkpoint != run.checkpoint) run = stored_run(checkpoint, given);
  });
}

AnsweringModel named_model(Command command, const std::string& name, const Options& options,
                           Communicator& world) {
  Described described{{name, options, {}}, {}, {}};
  const std::string path =
      options.checkpoint_path.empty() ? name : options.checkpoint_path + "/" + name;
  collectively(world, [&] {
    describe(path, described);
    std::vector<std::string>& mistakes = described.mistakes;
    if (mistakes.empty()) mistakes = contradictions(command, described.model.options, world.size());
    CHECK(mistakes.empty(), ExitCode::kConfig, "{}", fmt::join(mistakes, "\n  "));
  });
  for (const std::string& note : described.notes) log_line(note);
  if (described.model.stored) agree(*described.model.stored, options, world);
  return std::move(described.model);
}

}  // namespace

std::vector<AnsweringModel> answering_models(Command command, const Options& options,
                                             Communicator& world) {
  if (options.checkpoint_names.empty()) return {{"", options, {}}};
  std::vector<AnsweringModel> models;
  for (const std::string& name : options.checkpoint_names)
    models.push_back(named_model(command, name, options, world));
  return models;
}

}  // namespace facet
