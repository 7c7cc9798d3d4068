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
// or, of a model that LLaVA 1.5's class computes (config_export.h),
//   OUT/                config.json, model.safetensors, tokenizer files as above,
//                       preprocessor_config.json, processor_config.json
//                       -> LlavaForConditionalGeneration, LlavaProcessor
// LoRA is merged into the exported weights (W + scale (R L)', with DoRA its rows brought to their
// magnitudes); the values in the ParamTable do
// not change. More than 5 GB of a part become shards with model.safetensors.index.json.
//
// Text tokens are embedded with lang_embed, in training and in generation. So the exported
// decoder's embed_tokens holds the trained lang_embed, and the model in Python answers as
// ours does. With a tied head that would change the head: then embed_tokens stays the decoder's own
// table, lang_embed is only in projection.safetensors, and Python must embed with it
// (inputs_embeds).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "data/tokenizer_files.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "nn/param_table.h"

namespace facet {

class WeightOrigins;

// config.json of a vision encoder of any family (vision_family.h) or of a whole model with one.
// Missing files: kMissingInput; contradictory or unsupported settings: kConfig.
VisionConfig read_vision_config(const std::string& directory);
// config.json of a decoder of one of the families (decoder_family.h); vocab_size is the file's,
// without added tokens.
LlamaConfig read_llama_config(const std::string& directory);

// Of a whole LLaVA's directory: that the features which its config.json asks for are those that
// such an encoder gives here, else kConfig. Other directories ask for none.
void check_llava_features(const std::string& lm_directory, const VisionConfig& encoder);

// The part of a config.json that describes the decoder: all of it, or of a whole LLaVA its
// text_config.
JsonValue decoder_settings(const JsonValue& root);

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
  // Directory of an adapter (adapter.h), whose LoRA and other weights go on top of the others; its
  // projection is read where projection_file is empty. Empty: LoRA is newly initialised.
  std::string adapter = {};
};

// The --chat_template that the projection's file records; "" if there is no such file, or it does
// not.
std::string recorded_chat_template(const PretrainedSources& sources);

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

// check_pretrained, then fills every parameter of an allocated table, tensor by tensor; a part
// (nn/param_table.h) with its places of the whole. Rows of added tokens (config.lm.vocab_size
// beyond the file's rows) get the mean of the file's rows, or with compat_visualchat normal draws
// of std initializer_range. LoRA is newly initialised unless it comes from an adapter. Each unit is
// opened once.
LoadReport load_pretrained(ParamTable& table, const VlmConfig& config,
                           const PretrainedSources& sources, uint64_t seed,
                           const OpenUnit& open_unit = nothing_to_open);

struct ExportSources {
  // Where the run's weights came from: frozen parameters are exported as they are there. Their
  // config.json is exported with new vocab_size and torch_dtype, preprocessor_config.json as it is.
  PretrainedSources pretrained;
  uint64_t seed = 0;  // with which drawn parameters began
  // Path of the tokenizer.model, copied, or the tokenizer.json, copied with all added tokens.
  // Empty: no tokenizer files.
  std::string tokenizer_file = {};
  // Tokens of its vocabulary at which text is split; from tokenizer_pieces on the model lacks them.
  std::vector<AddedToken> added_tokens = {};
  int64_t tokenizer_pieces = 0;
  std::vector<std::pair<std::string, std::string>> token_roles = {};  // "pad_token" and a text, ...
  SpaceMarks space_marks = SpaceMarks::kEveryPiece;
  std::string chat_template = "original";  // that it was trained with
  bool pads_images = false;                // before all that preprocessor_config.json says
};

enum class ExportKind : uint8_t { kFull, kAdapter };

struct ExportForm {
  ExportKind kind = ExportKind::kFull;
  std::optional<DType> type = {};  // of all tensors; none: each as in its file, fp32 for the others
  int64_t shard_bytes = kShardBytes;
};

// Elements [begin, begin+count) of a parameter in fp32.
using ReadParam = std::function<void(const Param&, int64_t begin, int64_t count, float* out)>;
// From a table whose units are opened so.
ReadParam read_through(const OpenUnit& open_unit);
// What load_pretrained() would find in a full export of the model `trained` without a type of its
// own, without that anything is written: LoRA is merged, and values are rounded to the types of the
// files. For the parameters of the same model without LoRA, one after the other. The arguments must
// outlive it.
ReadParam read_as_exported(const ParamTable& trained, const VlmConfig& config,
                           const WeightOrigins& origins, const ReadParam& read_trained);
// Fills every parameter of an allocated table, a part with its places of the whole that is read.
// Each unit is opened once.
void fill(ParamTable& table, const ReadParam& read, const OpenUnit& open_unit = nothing_to_open);

// The bytes that export_model writes, or a little more. Needs the headers of the files; without
// them, as for a plan, the caller says what type each parameter has there.
int64_t estimated_export_bytes(const ParamTable& table, const VlmConfig& config,
                               const ExportSources& sources, const ExportForm& form);
int64_t estimated_export_bytes(const ParamTable& table, const VlmConfig& config,
                               const ExportSources& sources, const ExportForm& form,
                               const std::function<DType(const Param&)>& type_in_file);

// Writes the directories above, or of an adapter (adapter.h). Called by one process. Frozen values
// are read from the files, trained ones are asked for; each is rounded once to its type. kIo if the
// disk has no room for it, before anything is written. between_pieces is called before each piece
// of about a megabyte.
void export_model(const std::string& out_directory, const ParamTable& table,
                  const VlmConfig& config, const ExportSources& sources, const ExportForm& form,
                  const ReadParam& read_trained, const std::function<void()>& between_pieces = {});

}  // namespace facet
