// A model of a few thousand parameters to talk with.
#pragma once

#include <memory>

#include "optim/partition.h"
#include "tests/model/language_rig.h"
#include "train/model_setup.h"

namespace facet {

// With MMCA where it is DeepSpeed-VisualChat's.
inline std::unique_ptr<ModelSetup> small_model(PromptStyle style = PromptStyle::kCorrect,
                                               const RopeScaling& scaling = {}) {
  auto setup = std::make_unique<ModelSetup>();
  setup->tokenizer = std::make_unique<Tokenizer>("tests/golden/data", style);
  setup->config = language_rig::small_config();
  setup->config.compat_visualchat = style == PromptStyle::kVisualChat;
  setup->config.mmca = setup->config.compat_visualchat;
  setup->config.vision.intermediate_size = 4000;  // pictures cost more than text
  setup->config.lm.rope_scaling = scaling;
  setup->config.lm.vocab_size = setup->tokenizer->vocab_size();
  setup->preprocessor =
      std::make_unique<ImagePreprocessor>(ImagePreprocessConfig{}, setup->config.image_size);
  setup->model = std::make_unique<VisionLanguageModel>(setup->config, setup->table);
  setup->table.allocate(partition_padding(1));
  for (Param& param : setup->table.params()) {
    if (param.init == Init::kNone) param.init = Init::kNormal002;
    ParamTable::draw(param, 3);
  }
  return setup;
}

}  // namespace facet
