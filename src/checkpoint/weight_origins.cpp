#include "checkpoint/weight_origins.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/check.h"
#include "base/rng.h"
#include "checkpoint/missing_tensors.h"
#include "checkpoint/model_choices.h"
#include "checkpoint/model_names.h"
#include "io/json.h"
#include "io/llava_directory.h"

namespace facet {

namespace {

constexpr std::string_view kDecoderPrefix = "lang_decoder.";
constexpr std::string_view kVisionPrefix = "vis_encoder.";
constexpr std::string_view kProjectionPrefix = "projection.";
constexpr std::string_view kLangEmbed = "lang_embed.weight";
constexpr std::string_view kTokenTable = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";
constexpr size_t kShownTensors = 10;  // of a list in a message

bool has_token_rows(std::string_view name) {
  return name == kLangEmbed || name == std::string(kDecoderPrefix) + std::string(kTokenTable) ||
         name == std::string(kDecoderPrefix) + std::string(kHead);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  StoredTensor as_stored;
  as_stored.shape = shape;
  return as_stored.shape_string();
}

std::string projection_beside(const std::string& lm_directory) {
  std::error_code error;
  const auto decoder = std::filesystem::canonical(lm_directory, error);
  if (error) return "";
  const std::string path = (decoder.parent_path() / "projection.safetensors").string();
  return std::filesystem::exists(path, error) ? path : "";
}

// What a whole model's files hold beside the vision encoder, its pooling head, and what older files
// hold.
bool is_known_beside_vision(std::string_view name) {
  return name.starts_with("text_model.") || name == "text_projection.weight" ||
         name == "visual_projection.weight" || name == "logit_scale" || name == "logit_bias" ||
         name.starts_with("vision_model.head.") || name.ends_with("embeddings.position_ids") ||
         name == "proj";
}

bool is_known_beside_decoder(std::string_view name, bool tied) {
  return name.ends_with("rotary_emb.inv_freq") || name == kTokenTable || (name == kHead && tied);
}

bool is_lora(std::string_view name) {
  return name.ends_with(".lora_right_weight") || name.ends_with(".lora_left_weight") ||
         name.ends_with(".lora_magnitude_vector");
}

std::string without(std::string_view prefix, const std::string& name) {
  return name.substr(prefix.size());
}

}  // namespace

TensorDirectory open_model(const std::string& directory, LlavaPart part) {
  if (is_llava_directory(directory)) return open_llava_part(directory, part);
  return with_model_names(TensorDirectory(directory), part);
}

std::string projection_file_of(const PretrainedSources& sources) {
  if (!sources.projection_file.empty()) return sources.projection_file;
  const std::string of_adapter =
      sources.adapter.empty() ? "" : read_adapter(sources.adapter).projection_file;
  if (!of_adapter.empty()) return of_adapter;
  return is_llava_directory(sources.lm_directory) ? "" : projection_beside(sources.lm_directory);
}

std::string recorded_chat_template(const PretrainedSources& sources) {
  const std::string file = projection_file_of(sources);
  if (file.empty())
    return is_llava_directory(sources.lm_directory)
               ? read_llava_choices(sources.lm_directory).chat_template
               : "";
  const TensorDirectory tensors = TensorDirectory::of_file(file);
  const auto found = tensors.metadata().find(kChatTemplate);
  return found == tensors.metadata().end() ? "" : found->second;
}

std::vector<std::string> WeightOrigins::Source::unclaimed() const {
  std::vector<std::string> names = tensors.names();
  std::erase_if(names, [&](const std::string& name) { return claimed.contains(name); });
  return names;
}

bool WeightOrigins::Source::has_part(std::string_view prefix) const {
  const std::vector<std::string> names = tensors.names();
  const auto first = std::lower_bound(names.begin(), names.end(), prefix);
  return first != names.end() && first->starts_with(prefix);
}

WeightOrigins::WeightOrigins(const ParamTable& table, const VlmConfig& config,
                             const PretrainedSources& sources, uint64_t seed)
    : config_(config),
      seed_(seed),
      lm_directory_(sources.lm_directory),
      file_rows_(read_llama_config(sources.lm_directory).vocab_size) {
  CHECK(config.lm.vocab_size >= file_rows_, ExitCode::kConfig,
        "{}/config.json: vocab_size {} is more than the {} rows asked for; tokenizer and model do "
        "not belong together",
        lm_directory_, file_rows_, config.lm.vocab_size);
  open(sources);
  for (const Param& param : table.params()) place(whole_of(param));
  for (const auto* source : {&decoder_, &vision_})
    if (*source) note_missing(**source);
  note_foreign_modules();
  if (!problems_.empty()) fail_with_problems();
  note_unused();
  note_merged_lora();
}

// The file with the projection comes first: what it holds is not looked for in the directories.
void WeightOrigins::open(const PretrainedSources& sources) {
  if (!sources.adapter.empty()) open_adapter(sources.adapter);
  projection_file_ = projection_file_of(sources);
  if (!projection_file_.empty())
    open_projection(TensorDirectory::of_file(projection_file_));
  else if (is_llava_directory(sources.lm_directory))
    open_projection(open_llava_part(sources.lm_directory, LlavaPart::kProjection));
  const auto holds = [&](std::string_view part) {
    return projection_ && projection_->has_part(part);
  };
  if (!holds(kDecoderPrefix))
    decoder_.emplace(open_model(sources.lm_directory, LlavaPart::kDecoder));
  if (!holds(kVisionPrefix))
    vision_.emplace(open_model(sources.vision_directory, LlavaPart::kVision));
}

// LLaVA has no lang_embed: its decoder's table is the one that is trained.
void WeightOrigins::open_projection(TensorDirectory tensors) {
  const bool alone = is_llava_projector(tensors);
  if (alone) tensors = with_projection_names(std::move(tensors));
  embeds_as_decoder_ = alone || projection_file_.empty();
  projection_file_ = tensors.source();
  projection_.emplace(std::move(tensors));
}

void WeightOrigins::open_adapter(const std::string& directory) {
  adapter_ = read_adapter(directory);
  if (adapter_->lang) lang_lora_.emplace(TensorDirectory::of_file(adapter_->lang->weights));
  if (adapter_->vision) vision_lora_.emplace(TensorDirectory::of_file(adapter_->vision->weights));
  if (!adapter_->other_file.empty()) other_.emplace(TensorDirectory::of_file(adapter_->other_file));
}

std::string WeightOrigins::read_from() const {
  const auto text = [&](const std::optional<Source>& source) {
    if (!source) return projection_file_;
    const std::string beside = source->tensors.not_read();
    return source->tensors.source() +
           (beside.empty() ? "" : fmt::format(" ({} beside it is not read)", beside));
  };
  return fmt::format("lang_decoder from {}; vis_encoder from {}{}", text(decoder_), text(vision_),
                     adapter_ ? "; adapter from " + adapter_->directory : "");
}

void WeightOrigins::place(const Param& param) {
  const std::string_view name = param.name;
  if (place_from_adapter(param)) return;
  if (param.role == ParamRole::kLora) {
    origins_[param.name] = {};
  } else if (name.starts_with(kDecoderPrefix) && decoder_) {
    claim(param, *decoder_, without(kDecoderPrefix, param.name));
  } else if (name.starts_with(kVisionPrefix) && vision_) {
    claim(param, *vision_, without(kVisionPrefix, param.name));
  } else if (projection_ && !(name == kLangEmbed && embeds_as_decoder_)) {
    claim(param, *projection_, param.name);
  } else if (name == kLangEmbed) {
    claim(param, *decoder_, std::string(kTokenTable));
  } else {
    ASSERT(name.starts_with(kProjectionPrefix), "{} belongs to no part of the model", name);
    origins_[param.name] = {};
  }
}

// Of an adapter come LoRA in the parts that it has, its saved modules and its other weights.
bool WeightOrigins::place_from_adapter(const Param& param) {
  std::optional<Source>& lora = param.name.starts_with(kVisionPrefix) ? vision_lora_ : lang_lora_;
  if (param.role == ParamRole::kLora && lora) {
    claim(param, *lora, adapter_key(param));
    origins_[param.name].transposed = param.shape.size() == 2;
    return true;
  }
  if (!param.saved_as.empty() && lang_lora_)
    claim(param, *lang_lora_, adapter_key(param));
  else if (other_ && other_->tensors.find(param.name) != nullptr)
    claim(param, *other_, param.name);
  else
    return false;
  pass_over(param);
  return true;
}

// What the models' files have in place of a parameter from the adapter is none that nobody knows.
void WeightOrigins::pass_over(const Param& param) {
  if (projection_) projection_->claimed.insert(param.name);
  if (param.name.starts_with(kDecoderPrefix) && decoder_)
    decoder_->claimed.insert(without(kDecoderPrefix, param.name));
  if (param.name.starts_with(kVisionPrefix) && vision_)
    vision_->claimed.insert(without(kVisionPrefix, param.name));
}

void WeightOrigins::claim(const Param& param, Source& source, const std::string& name) {
  const StoredTensor* stored = source.tensors.find(name);
  // embed_tokens is claimed a second time by lang_embed; what is wrong with it is told once.
  if (source.claimed.insert(name).second) check(param, source, name, stored);
  if (stored != nullptr) origins_[param.name] = {&source, name, stored->numel()};
}

void WeightOrigins::check(const Param& param, Source& source, const std::string& name,
                          const StoredTensor* stored) {
  if (stored == nullptr) {
    source.missing.push_back(name);
    problems_.push_back(fmt::format("missing: {} {} in {}", name,
                                    shape_text(shape_in_file(param, source, stored)),
                                    source.tensors.directory()));
    return;
  }
  const std::string& path = source.tensors.path_of(name);
  const std::vector<int64_t> expected = shape_in_file(param, source, stored);
  if (stored->shape != expected) {
    problems_.push_back(fmt::format("wrong shape: {} is {} in {}, the configuration asks for {}",
                                    name, stored->shape_string(), path, shape_text(expected)));
  } else if (!stored->is_real()) {
    problems_.push_back(fmt::format("wrong type: {} is {} in {}, expected F32, BF16, F16 or F64",
                                    name, stored->type, path));
  }
}

// Tables with a row per token have the decoder's original vocab_size rows in the file; the model
// may have more. A file that was trained with the added tokens has theirs too.
std::vector<int64_t> WeightOrigins::shape_in_file(const Param& param, const Source& source,
                                                  const StoredTensor* stored) const {
  std::vector<int64_t> shape = param.shape;
  if (param.role == ParamRole::kLora) std::reverse(shape.begin(), shape.end());
  if (!has_token_rows(param.name)) return shape;
  const auto is = [&](const std::optional<Source>& one) { return one && &source == &*one; };
  const bool trained = is(projection_) || is(other_) || is(lang_lora_);
  if (!trained || stored == nullptr || stored->shape != shape) shape[0] = file_rows_;
  return shape;
}

void WeightOrigins::note_missing(const Source& source) {
  if (source.missing.empty()) return;
  const std::string reason =
      why_missing(source.missing, source.unclaimed(), source.tensors.directory());
  if (!reason.empty()) reasons_.push_back(reason);
}

// An adapter of modules that the decoder does not have belongs to another model.
void WeightOrigins::note_foreign_modules() {
  if (!lang_lora_) return;
  for (const std::string& name : lang_lora_->unclaimed())
    problems_.push_back(fmt::format(
        "{}: {} belongs to no module of the language model that adapter_config.json names",
        lang_lora_->tensors.source(), name));
}

// Tensors that are known to be in such files for no use here are not told.
void WeightOrigins::note_unused() {
  const auto note = [&](const Source& source, auto&& known) {
    std::vector<std::string> names = source.unclaimed();
    std::erase_if(names, known);
    if (names.empty()) return;
    const size_t shown = std::min(kShownTensors, names.size());
    std::string list;
    for (size_t i = 0; i < shown; ++i)
      list += fmt::format("{}{} {}", i > 0 ? ", " : "", names[i],
                          source.tensors.find(names[i])->shape_string());
    if (names.size() > shown) list += fmt::format(" and {} more", names.size() - shown);
    unused_.push_back(fmt::format("{}: {} tensors are not part of the model and not used: {}",
                                  source.tensors.directory(), names.size(), list));
  };
  const bool tied = config_.lm.tie_word_embeddings;
  if (decoder_)
    note(*decoder_, [&](const std::string& name) { return is_known_beside_decoder(name, tied); });
  if (vision_) note(*vision_, is_known_beside_vision);
  if (projection_)
    note(*projection_, [&](const std::string& name) { return is_known_in_projection(name); });
  if (vision_lora_) note(*vision_lora_, [](const std::string&) { return false; });
  if (other_) note(*other_, [](const std::string& name) { return name.ends_with(kAddedRows); });
}

bool WeightOrigins::is_known_in_projection(const std::string& name) const {
  if (is_lora(name)) return true;
  if (name.starts_with(kVisionPrefix)) return is_known_beside_vision(without(kVisionPrefix, name));
  return name.starts_with(kDecoderPrefix) &&
         is_known_beside_decoder(without(kDecoderPrefix, name), config_.lm.tie_word_embeddings);
}

// DeepSpeed-VisualChat saves a model with LoRA merged into the weights and yet beside them.
void WeightOrigins::note_merged_lora() {
  if (!projection_) return;
  const std::vector<std::string> names = projection_->unclaimed();
  const auto matrices = std::count_if(names.begin(), names.end(), is_lora);
  if (matrices > 0)
    unused_.push_back(fmt::format(
        "{}: its {} LoRA matrices are taken to be merged into its weights and are not used",
        projection_file_, matrices));
}

void WeightOrigins::fail_with_problems() const {
  std::string list;
  for (size_t i = 0; i < std::min(kShownTensors, problems_.size()); ++i)
    list += "\n  " + problems_[i];
  if (problems_.size() > kShownTensors)
    list += fmt::format("\n  and {} more", problems_.size() - kShownTensors);
  for (const std::string& reason : reasons_) list += "\n" + reason;
  fail(ExitCode::kConfig,
       "the model files do not hold the model that the configuration describes ({} tensors); "
       "correct config.json or --vis_proj, or give the files that belong to it:{}",
       problems_.size(), list);
}

const std::map<std::string, std::string>& WeightOrigins::metadata() const {
  static const std::map<std::string, std::string> none;
  return projection_ ? projection_->tensors.metadata() : none;
}

const WeightOrigins::Origin& WeightOrigins::origin_of(const Param& param) const {
  const auto found = origins_.find(param.name);
  ASSERT(found != origins_.end(), "{} is no parameter of the model", param.name);
  return found->second;
}

bool WeightOrigins::is_in_models(const Param& param) const {
  const Source* source = origin_of(param).source;
  return (decoder_ && source == &*decoder_) || (vision_ && source == &*vision_);
}

int64_t WeightOrigins::added_rows(const Param& param) const {
  const Origin& origin = origin_of(param);
  if (origin.source == nullptr || origin.elements == param.numel()) return 0;
  return param.shape[0] - origin.elements / (param.numel() / param.shape[0]);
}

DType WeightOrigins::type_of(const Param& param) const {
  const Origin& origin = origin_of(param);
  if (origin.source == nullptr) return DType::kF32;
  const std::string& type = origin.source->tensors.find(origin.name)->type;
  if (type == "BF16") return DType::kBF16;
  return type == "F16" ? DType::kF16 : DType::kF32;
}

// ---- values

void WeightOrigins::read(const Param& param, int64_t begin, int64_t count, float* out) const {
  const Origin& origin = origin_of(param);
  const bool as_it_is = origin.source != nullptr && !origin.transposed;
  const int64_t in_file =
      as_it_is ? std::clamp<int64_t>(origin.elements - begin, 0, count) : int64_t{0};
  if (in_file > 0) origin.source->tensors.read_f32(origin.name, begin, in_file, out);
  if (in_file == count) return;
  const std::vector<float>& made = made_values(param);
  const int64_t first = begin + in_file - (as_it_is ? origin.elements : 0);
  std::copy_n(made.begin() + first, count - in_file, out + in_file);
}

const std::vector<float>& WeightOrigins::made_values(const Param& param) const {
  if (made_for_ == param.name) return made_;
  const Origin& origin = origin_of(param);
  made_for_.clear();
  if (origin.source == nullptr && param.init == Init::kRowNorms) {
    made_ = row_norms(*param.rows_of);
    made_for_ = param.name;
    return made_;
  }
  const bool rows = origin.source != nullptr && !origin.transposed;
  made_.assign(static_cast<size_t>(rows ? param.numel() - origin.elements : param.numel()), 0);
  if (rows) {
    make_added_rows(param, origin, made_.data());
  } else if (origin.transposed) {
    read_transposed(param, origin, made_.data());
  } else {
    Param drawn = param;
    drawn.value =
        Tensor(made_.data(), {param.shape[0], param.numel() / param.shape[0]}, DType::kF32);
    ParamTable::draw(drawn, seed_);
  }
  made_for_ = param.name;
  return made_;
}

std::vector<float> WeightOrigins::row_norms(const Param& matrix) const {
  std::vector<float> values(static_cast<size_t>(matrix.numel()));
  std::vector<float> norms(static_cast<size_t>(matrix.shape[0]));
  read(matrix, 0, matrix.numel(), values.data());
  ParamTable::row_norms(norms.data(), values.data(), matrix.shape[0], matrix.shape[1]);
  return norms;
}

// The parameter is (rows, columns), the file has (columns, rows).
void WeightOrigins::read_transposed(const Param& param, const Origin& origin, float* out) const {
  const int64_t rows = param.shape[0], columns = param.shape[1];
  std::vector<float> stored(static_cast<size_t>(param.numel()));
  origin.source->tensors.read_f32(origin.name, 0, param.numel(), stored.data());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      out[i * columns + j] = stored[static_cast<size_t>(j * rows + i)];
}

namespace {

double initializer_range(const std::string& lm_directory) {
  const JsonDocument document = JsonDocument::read_config(lm_directory + "/config.json");
  return decoder_settings(document.root()).get_double("initializer_range", 0.02);
}

}  // namespace

// As an adapter has them; else the mean of the rows in the file, or in compat normal draws.
void WeightOrigins::make_added_rows(const Param& param, const Origin& origin, float* out) const {
  const int64_t columns = param.numel() / param.shape[0];
  const int64_t count = param.numel() - origin.elements;
  const std::string kept = param.name + std::string(kAddedRows);
  if (const StoredTensor* rows = other_ ? other_->tensors.find(kept) : nullptr) {
    CHECK(rows->numel() == count && rows->is_real(), ExitCode::kConfig,
          "{}: {} is {} {}, the model lacks {} rows of {}: the adapter belongs to another model",
          other_->tensors.source(), kept, rows->type, rows->shape_string(), count / columns,
          columns);
    return other_->tensors.read_f32(kept, 0, count, out);
  }
  if (config_.compat_visualchat) {
    // Keyed by the tensor in the file, so that lang_embed starts as a copy of embed_tokens.
    RandomStream stream(seed_, "added_token_rows", hash_name(origin.name));
    const double std = initializer_range(lm_directory_);
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(std * stream.normal());
    return;
  }
  const std::vector<float> mean = mean_row(origin, columns);
  for (int64_t i = 0; i < count; ++i) out[i] = mean[static_cast<size_t>(i % columns)];
}

std::vector<float> WeightOrigins::mean_row(const Origin& origin, int64_t columns) const {
  constexpr int64_t kPieceElements = int64_t{1} << 18;
  const int64_t rows = origin.elements / columns;
  const int64_t at_a_time = std::max<int64_t>(1, kPieceElements / columns);
  std::vector<double> sums(static_cast<size_t>(columns), 0.0);
  std::vector<float> piece(static_cast<size_t>(at_a_time * columns));
  for (int64_t row = 0; row < rows; row += at_a_time) {
    const int64_t count = std::min(at_a_time, rows - row) * columns;
    origin.source->tensors.read_f32(origin.name, row * columns, count, piece.data());
    for (int64_t i = 0; i < count; ++i)
      sums[static_cast<size_t>(i % columns)] += piece[static_cast<size_t>(i)];
  }
  std::vector<float> mean;
  for (const double sum : sums) mean.push_back(static_cast<float>(sum / static_cast<double>(rows)));
  return mean;
}

}  // namespace facet
