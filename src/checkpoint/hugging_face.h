// Hugging Face model directories: reading configuration and weights, and exporting ours in the same
// format.
//
// An export is
//   OUT/lang_decoder/   config.json, model.safetensors, tokenizer.model, tokenizer_config.json,
//                       added_tokens.json      -> the family's ...ForCausalLM, LlamaTokenizer
//                       or, in place of tokenizer.model, tokenizer.json -> AutoTokenizer
//   OUT/vis_encoder/    config.json, model.safetensors, preprocessor_config.json
//                       -> CLIPVisionModel, or the class of another family (vision_family.h)
//   OUT/projection.safetensors                 projection.* and lang_embed.weight; in its metadata
//                                              the choices that no shape shows (model_choices.h)
// LoRA is merged into the exported weights (W + alpha/r (R L)'); the values in the ParamTable do
// not change.
//
// Text tokens are embedded with lang_embed, in training and in generation. So the exported
// decoder's embed_tokens holds the trained lang_embed, and the model in Python answers as
// ours does. With a tied head that would change the head: then embed_tokens stays the decoder's own
// table, lang_embed is only in projection.safetensors, and Python must embed with it
// (inputs_embeds).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer_files.h"
#include "model/config.h"
#include "nn/param_table.h"

namespace facet {

// config.json of a vision encoder of any family (vision_family.h) or of a whole model with one.
// Missing files: kMissingInput; contradictory or unsupported settings: kConfig.
VisionConfig read_vision_config(const std::string& directory);
// config.json of a decoder of one of the families (decoder_family.h); vocab_size is the file's,
// without added tokens.
LlamaConfig read_llama_config(const std::string& directory);

// Token ids that end an answer: eos_token_id, a number or a list, of generation_config.json, or of
// config.json where that has none. kConfig.
std::vector<int32_t> read_end_tokens(const std::string& directory);

struct PretrainedSources {
  std::string lm_directory;
  std::string vision_directory;
  // projection.safetensors of an export, or a file with other parts of the model too under their
  // prefixes (DeepSpeed-VisualChat's epoch-N/pytorch_model.bin): these are read from it, and the
  // directories need no weights for them. Empty: the one next to lm_directory
  // (lm_directory/../projection.safetensors) if it exists, else projection and lang_embed are newly
  // initialised.
  std::string projection_file;
};

// What load_pretrained did, for one line of the log each.
struct LoadReport {
  std::string projection_file;     // the file that was read, empty if none
  std::string read_from;           // the files of the decoder and of the vision encoder
  int64_t added_token_rows = 0;    // rows of the embeddings that were in no file
  std::vector<std::string> drawn;  // names of the randomly initialised parameters
  std::vector<std::string>
      differing_choices;            // compared with the export that was read (model_choices.h)
  std::vector<std::string> unused;  // as check_pretrained() returns it
};

// Compares the directories with the declared parameters, without reading any values. Missing and
// wrongly shaped tensors are listed in ONE Error(kConfig), with what is there instead if it is
// recognised. Returns a line for each source with tensors that nobody asks for, which names them.
std::vector<std::string> check_pretrained(const ParamTable& table, const VlmConfig& config,
                                          const PretrainedSources& sources);

// check_pretrained, then fills every parameter of an allocated table, tensor by tensor. Rows of
// added tokens (config.lm.vocab_size beyond the file's rows) get the mean of the file's rows, or
// with compat_visualchat normal draws of std initializer_range. LoRA is always newly initialised.
// Each unit is opened once.
LoadReport load_pretrained(ParamTable& table, const VlmConfig& config,
                           const PretrainedSources& sources, uint64_t seed,
                           const OpenUnit& open_unit = nothing_to_open);

struct ExportSources {
  std::string lm_directory;      // its config.json is exported with new vocab_size and torch_dtype
  std::string vision_directory;  // its config.json and preprocessor_config.json are exported
  // Path of the tokenizer.model, copied, or the tokenizer.json, copied with all added tokens.
  // Empty: no tokenizer files.
  std::string tokenizer_file = {};
  // Tokens of its vocabulary at which text is split; from tokenizer_pieces on the model lacks them.
  std::vector<AddedToken> added_tokens = {};
  int64_t tokenizer_pieces = 0;
  std::vector<std::pair<std::string, std::string>> token_roles = {};  // "pad_token" and a text, ...
  SpaceMarks space_marks = SpaceMarks::kEveryPiece;
};

// The bytes that export_model writes, or a little more.
int64_t estimated_export_bytes(const ParamTable& table, const VlmConfig& config,
                               const ExportSources& sources);

// Writes the directories above. Called by one process; units may be opened more than once.
void export_model(const std::string& out_directory, const ParamTable& table,
                  const VlmConfig& config, const ExportSources& sources,
                  const OpenUnit& open_unit = nothing_to_open);

}  // namespace facet
