// From the command line to the composed model: configurations, tokenizer, pixels, parameters.
#pragma once

#include <memory>

#include "checkpoint/hugging_face.h"
#include "comm/communicator.h"
#include "data/clip_preprocess.h"
#include "data/tokenizer.h"
#include "model/vlm.h"
#include "options/options.h"

namespace facet {

struct ModelSetup {
  VlmConfig config;
  // Not there for a model without tokenizer.model, when recorded micro-batches are replayed (then V
  // is the model's own) or a run is only planned.
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ClipPreprocessor> preprocessor;
  ParamTable table;  // declared; allocate() and load_weights() follow
  std::unique_ptr<VisionLanguageModel> model;
};

// What to do about a model directory without tokenizer.model: nothing can be read from text then.
// kAssume takes V as the model's own rows and the tokens that a tokenizer gets added here.
enum class MissingTokenizer : uint8_t { kError, kAssume };

// Reads configurations and tokenizer and declares the parameters.
std::unique_ptr<ModelSetup> declare_model(const Options& options,
                                          MissingTokenizer missing = MissingTokenizer::kError);

// Applies --unfreeze and --freeze, and checks that what was asked for is there: a prefix that
// matches no parameter, LoRA that found no linear and nothing left to train are errors.
void choose_trained(const Options& options, ParamTable& table);

// What the layers compute in: of --precision.
DType compute_dtype(const Options& options);

PretrainedSources sources_of(const Options& options);

// Fills the allocated parameters from the files; returns what to tell about it.
LoadReport load_weights(const Options& options, ModelSetup& setup,
                        const OpenUnit& open_unit = nothing_to_open);
// The same for evaluation and generation, which train nothing: lays the parameters out as well. An
// export must be used as it was trained, so choices that differ are an Error(kConfig).
void load_weights_as_trained(const Options& options, ModelSetup& setup, Communicator& world,
                             Backend& ops);

// OUT/epoch-N or another directory: what Hugging Face's libraries and this program can load.
void export_weights(const Options& options, const ModelSetup& setup, const std::string& directory,
                    const OpenUnit& open_unit = nothing_to_open);

}  // namespace facet
