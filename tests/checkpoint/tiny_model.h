// A tiny model, the directories that it is loaded from, and its LoRA.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/hugging_face.h"
#include "tests/checkpoint/tiny_directories.h"

namespace facet {

struct Model {
  VlmConfig config;
  ParamTable table;
  std::unique_ptr<VisionLanguageModel> model;

  explicit Model(VlmConfig with, const char* unfreeze = nullptr) : config(std::move(with)) {
    model = std::make_unique<VisionLanguageModel>(config, table);
    if (unfreeze != nullptr) table.set_trained(unfreeze, true);
    table.allocate(1);
    for (Param& param : table.params()) {
      float* value = param.value.f32();
      std::fill_n(value, param.numel(), std::nanf(""));
    }
  }
  void randomize(uint64_t seed) {
    for (Param& param : table.params()) fill_randomly(param, seed);
  }
  std::vector<float> values(const char* name) { return values_of(*table.find(name)); }
};

// Source directories as a user has them, and a configuration read from them.
struct Sources {
  TemporaryDirectory directory;
  VlmConfig config;

  explicit Sources(const std::string& llama = kTinyLlama,
                   const std::string& vision_config = kTinyClip) {
    directory.put("models/lm/config.json", llama);
    directory.put("clip/config.json", vision_config);
    directory.put("clip/preprocessor_config.json", "{\"size\": 8}");
    directory.put("models/lm/tokenizer.model", "pieces");
    config.lm = read_llama_config(directory / "models/lm");
    write_tensors(directory / "clip/model.safetensors", {});
    config.vision = read_vision_config(directory / "clip");
    config.image_size = config.vision.image_size;
    Model original(config);
    original.randomize(3);
    decoder = tensors_under(original.table, "lang_decoder.");
    vision = tensors_under(original.table, "vis_encoder.");
    write();
  }
  void write() const {
    write_tensors(directory / "models/lm/model.safetensors", decoder);
    write_tensors(directory / "clip/model.safetensors", vision);
  }
  PretrainedSources pretrained() const { return {directory / "models/lm", directory / "clip", ""}; }
  ExportSources exported() const {
    return {pretrained(),
            1,
            directory / "models/lm/tokenizer.model",
            {{"### Image:", 11}, {"<image>", 12}}};
  }
  std::string load_error() const {
    return error_of([&] {
      Model model(config);
      load_pretrained(model.table, config, pretrained(), 1);
    });
  }

  Tensors decoder, vision;
};

// As training leaves it: frozen values from the files, the others anything.
inline void load_and_train(Model& model, const PretrainedSources& sources) {
  load_pretrained(model.table, model.config, sources, 1);
  for (Param& param : model.table.params())
    if (param.trained) fill_randomly(param, 8);
}

inline void export_to(const std::string& place, const Model& model, const ExportSources& sources,
                      const ExportForm& form = {}) {
  export_model(place, model.table, model.config, sources, form, read_through(nothing_to_open));
}

inline VlmConfig with_lora(VlmConfig config) {
  config.lang_lora = {.rank = 3, .alpha = 2, .module_name = "model.layers.", .compat_init = false};
  config.vis_lora = {.rank = 2,
                     .alpha = 1,
                     .module_name = "encoder.layers.",
                     .compat_init = false,
                     .rank_stabilised = true};
  return config;
}

}  // namespace facet
