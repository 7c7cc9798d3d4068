// From the command line to the composed model: configurations, tokenizer, pixels, parameters.
#pragma once

#include <memory>

#include "checkpoint/hugging_face.h"
#include "comm/communicator.h"
#include "data/image_preprocess.h"
#include "data/tokenizer.h"
#include "model/vlm.h"
#include "options/options.h"

namespace facet {

class StoredModel;

struct ModelSetup {
  VlmConfig config;
  // nullptr for a model without a tokenizer, which will do when recorded micro-batches are
  // replayed (V is then the model's own) or a run is only planned.
  std::unique_ptr<Tokenizer> tokenizer;
  std::string chat_template;        // of conversations
  std::vector<int32_t> end_tokens;  // that the files name; each ends an answer in generation
  std::unique_ptr<ImagePreprocessor> preprocessor;
  ParamTable table;  // declared; allocate() and load_weights() follow
  std::unique_ptr<VisionLanguageModel> model;
};

// What to do about a model directory without a tokenizer, with which no text can be read.
// kAssume takes V to be the model's own rows plus the tokens that this program adds.
enum class MissingTokenizer : uint8_t { kError, kAssume };

// The options with the ranks and scales of the LoRA that --adapter brings: a checkpoint, which
// holds them, then belongs to no run with another adapter's. kConfig if they say otherwise.
Options with_lora_of_adapter(Options options);

// Reads configurations and tokenizer and declares the parameters: of a decoder that a group of
// ranks holds together those of one rank. kConfig if they can't be shared so.
std::unique_ptr<ModelSetup> declare_model(const Options& options,
                                          MissingTokenizer missing = MissingTokenizer::kError,
                                          GroupPlace group = {});

// Applies --unfreeze and --freeze, and checks that they mean something: a prefix that matches no
// parameter, LoRA that matches no linear layer and nothing left to train are errors.
void choose_trained(const Options& options, ParamTable& table);

// The form of conversations with which a model was trained, where it is an export or an adapter
// that says so; else --chat_template. Error(kConfig) if that names another one.
std::string chat_template_as_trained(const Options& options);

// The type that --precision has the layers compute in.
DType compute_dtype(const Options& options);

PretrainedSources sources_of(const Options& options);

// The options with the directories of the two models that `given` names in place of theirs.
Options with_models_of(Options options, const Options& given);

// Fills the allocated parameters from the files; returns what to report about it.
LoadReport load_weights(const Options& options, ModelSetup& setup,
                        const OpenUnit& open_unit = nothing_to_open);
// The same for evaluation and generation, which train nothing; lays the parameters out as well. An
// exported model must be used as it was trained, so differing choices are an Error(kConfig). With
// --compat visualchat generated tokens are then embedded as by the original. `stored`: the weights
// are those of a checkpoint's model, LoRA merged.
void load_weights_as_trained(const Options& options, ModelSetup& setup, Communicator& world,
                             Backend& ops, const StoredModel* stored = nullptr);

// What an export takes from the files that were read.
ExportSources export_sources(const Options& options, const ModelSetup& setup);

}  // namespace facet
