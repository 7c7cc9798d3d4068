#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "base/rng.h"
#include "checkpoint/hugging_face.h"
#include "checkpoint/missing_tensors.h"
#include "checkpoint/model_choices.h"
#include "io/json.h"
#include "io/tensor_directory.h"

namespace facet {

namespace {

constexpr std::string_view kDecoderPrefix = "lang_decoder.";
constexpr std::string_view kVisionPrefix = "vis_encoder.";
constexpr std::string_view kProjectionPrefix = "projection.";
constexpr std::string_view kLangEmbed = "lang_embed.weight";
constexpr std::string_view kTokenTable = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";
constexpr size_t kShownTensors = 10;  // of a list in a message

// A source of parameters, and which of its tensors have been claimed.
struct Source {
  explicit Source(TensorDirectory directory) : tensors(std::move(directory)) {}

  TensorDirectory tensors;
  std::set<std::string, std::less<>> claimed;
  std::vector<std::string> missing;

  std::vector<std::string> unclaimed() const {
    std::vector<std::string> names = tensors.names();
    std::erase_if(names, [&](const std::string& name) { return claimed.contains(name); });
    return names;
  }
  // Whether it holds tensors of this part of the model.
  bool has_part(std::string_view prefix) const {
    const std::vector<std::string> names = tensors.names();
    const auto first = std::lower_bound(names.begin(), names.end(), prefix);
    return first != names.end() && first->starts_with(prefix);
  }
};

// Where one parameter comes from; without a source it is initialised randomly.
struct Origin {
  const Param* param = nullptr;
  const Source* source = nullptr;
  std::string name;      // in the source
  int64_t elements = 0;  // in the source; fewer than in the parameter if tokens were added
};

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
         name.starts_with("vision_model.head.") || name.ends_with("embeddings.position_ids");
}

bool is_known_beside_decoder(std::string_view name, bool tied) {
  return name.ends_with("rotary_emb.inv_freq") || name == kTokenTable || (name == kHead && tied);
}

bool is_lora(std::string_view name) {
  return name.ends_with(".lora_right_weight") || name.ends_with(".lora_left_weight");
}

std::string without(std::string_view prefix, const std::string& name) {
  return name.substr(prefix.size());
}

class Plan {
 public:
  Plan(const ParamTable& table, const VlmConfig& config, const PretrainedSources& sources);

  const std::vector<Origin>& origins() const { return origins_; }
  const std::string& projection_file() const { return projection_file_; }
  const std::vector<std::string>& unused() const { return unused_; }  // a line for each source
  std::string read_from() const;
  const std::map<std::string, std::string>& metadata() const {
    static const std::map<std::string, std::string> none;
    return projection_ ? projection_->tensors.metadata() : none;
  }

 private:
  void open(const PretrainedSources& sources);
  void place(const Param& param);
  void claim(const Param& param, Source& source, const std::string& name);
  void check(const Param& param, Source& source, const std::string& name,
             const StoredTensor* stored);
  std::vector<int64_t> shape_in_file(const Param& param, const Source& source,
                                     const StoredTensor* stored) const;
  void note_missing(const Source& source);  // why, if it is recognised
  void note_unused();
  void note_merged_lora();
  bool is_known_in_projection(const std::string& name) const;
  [[noreturn]] void fail_with_problems() const;

  const VlmConfig& config_;
  std::string lm_directory_;
  int64_t file_rows_ = 0;  // vocab_size of the decoder's config.json
  std::string projection_file_;
  std::optional<Source> projection_;
  std::optional<Source> decoder_, vision_;  // none where projection_ holds that part
  std::vector<Origin> origins_;
  std::vector<std::string> problems_, reasons_, unused_;
};

Plan::Plan(const ParamTable& table, const VlmConfig& config, const PretrainedSources& sources)
    : config_(config),
      lm_directory_(sources.lm_directory),
      file_rows_(read_llama_config(sources.lm_directory).vocab_size),
      projection_file_(sources.projection_file.empty() ? projection_beside(sources.lm_directory)
                                                       : sources.projection_file) {
  CHECK(config.lm.vocab_size >= file_rows_, ExitCode::kConfig,
        "{}/config.json: vocab_size {} is more than the {} rows asked for; tokenizer and model do "
        "not belong together",
        lm_directory_, file_rows_, config.lm.vocab_size);
  open(sources);
  for (const Param& param : table.params()) place(param);
  for (const auto* source : {&decoder_, &vision_})
    if (*source) note_missing(**source);
  if (!problems_.empty()) fail_with_problems();
  note_unused();
  note_merged_lora();
}

// The file with the projection comes first: what it holds is not looked for in the directories.
void Plan::open(const PretrainedSources& sources) {
  if (!projection_file_.empty()) projection_.emplace(TensorDirectory::of_file(projection_file_));
  const auto holds = [&](std::string_view part) {
    return projection_ && projection_->has_part(part);
  };
  if (!holds(kDecoderPrefix)) decoder_.emplace(TensorDirectory(sources.lm_directory));
  if (!holds(kVisionPrefix)) vision_.emplace(TensorDirectory(sources.vision_directory));
}

std::string Plan::read_from() const {
  const auto text = [&](const std::optional<Source>& source) {
    if (!source) return projection_file_;
    const std::string beside = source->tensors.not_read();
    return source->tensors.source() +
           (beside.empty() ? "" : fmt::format(" ({} beside it is not read)", beside));
  };
  return fmt::format("lang_decoder from {}; vis_encoder from {}", text(decoder_), text(vision_));
}

void Plan::place(const Param& param) {
  const std::string_view name = param.name;
  if (param.role == ParamRole::kLora) {
    origins_.push_back({&param, nullptr, "", 0});
  } else if (name.starts_with(kDecoderPrefix) && decoder_) {
    claim(param, *decoder_, without(kDecoderPrefix, param.name));
  } else if (name.starts_with(kVisionPrefix) && vision_) {
    claim(param, *vision_, without(kVisionPrefix, param.name));
  } else if (projection_) {
    claim(param, *projection_, param.name);
  } else if (name == kLangEmbed) {
    claim(param, *decoder_, std::string(kTokenTable));
  } else {
    ASSERT(name.starts_with(kProjectionPrefix), "{} belongs to no part of the model", name);
    origins_.push_back({&param, nullptr, "", 0});
  }
}

void Plan::claim(const Param& param, Source& source, const std::string& name) {
  const StoredTensor* stored = source.tensors.find(name);
  // embed_tokens is claimed a second time by lang_embed; what is wrong with it is told once.
  if (source.claimed.insert(name).second) check(param, source, name, stored);
  if (stored != nullptr) origins_.push_back({&param, &source, name, stored->numel()});
}

void Plan::check(const Param& param, Source& source, const std::string& name,
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
std::vector<int64_t> Plan::shape_in_file(const Param& param, const Source& source,
                                         const StoredTensor* stored) const {
  std::vector<int64_t> shape = param.shape;
  if (!has_token_rows(param.name)) return shape;
  const bool trained = projection_ && &source == &*projection_;
  if (!trained || stored == nullptr || stored->shape != shape) shape[0] = file_rows_;
  return shape;
}

void Plan::note_missing(const Source& source) {
  if (source.missing.empty()) return;
  const std::string reason =
      why_missing(source.missing, source.unclaimed(), source.tensors.directory());
  if (!reason.empty()) reasons_.push_back(reason);
}

// Tensors that are known to be in such files for no use here are not told.
void Plan::note_unused() {
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
}

bool Plan::is_known_in_projection(const std::string& name) const {
  if (is_lora(name)) return true;
  if (name.starts_with(kVisionPrefix)) return is_known_beside_vision(without(kVisionPrefix, name));
  return name.starts_with(kDecoderPrefix) &&
         is_known_beside_decoder(without(kDecoderPrefix, name), config_.lm.tie_word_embeddings);
}

// DeepSpeed-VisualChat saves a model with LoRA merged into the weights and yet beside them.
void Plan::note_merged_lora() {
  if (!projection_) return;
  const std::vector<std::string> names = projection_->unclaimed();
  const auto matrices = std::count_if(names.begin(), names.end(), is_lora);
  if (matrices > 0)
    unused_.push_back(fmt::format(
        "{}: its {} LoRA matrices are taken to be merged into its weights and are not used",
        projection_file_, matrices));
}

void Plan::fail_with_problems() const {
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

// The mean of every column over the rows before `begin` of (rows, cols).
void fill_with_mean(float* rows, int64_t begin, int64_t end, int64_t cols) {
  std::vector<double> sums(static_cast<size_t>(cols), 0.0);
  for (int64_t row = 0; row < begin; ++row)
    for (int64_t j = 0; j < cols; ++j) sums[static_cast<size_t>(j)] += rows[row * cols + j];
  for (int64_t row = begin; row < end; ++row)
    for (int64_t j = 0; j < cols; ++j)
      rows[row * cols + j] =
          static_cast<float>(sums[static_cast<size_t>(j)] / static_cast<double>(begin));
}

void fill_with_normal(float* rows, int64_t begin, int64_t end, int64_t cols, double std,
                      RandomStream stream) {
  for (int64_t i = begin * cols; i < end * cols; ++i)
    rows[i] = static_cast<float>(std * stream.normal());
}

double initializer_range(const std::string& lm_directory) {
  const JsonDocument document = JsonDocument::read_config(lm_directory + "/config.json");
  return document.root().get_double("initializer_range", 0.02);
}

}  // namespace

std::vector<std::string> check_pretrained(const ParamTable& table, const VlmConfig& config,
                                          const PretrainedSources& sources) {
  return Plan(table, config, sources).unused();
}

LoadReport load_pretrained(ParamTable& table, const VlmConfig& config,
                           const PretrainedSources& sources, uint64_t seed,
                           const OpenUnit& open_unit) {
  const Plan plan(table, config, sources);
  LoadReport report;
  report.projection_file = plan.projection_file();
  report.read_from = plan.read_from();
  report.unused = plan.unused();
  report.differing_choices = differing_choices(config, plan.metadata());
  int open = kNoUnit;
  for (const Origin& origin : plan.origins()) {  // in the table's order
    Param& param = *table.find(origin.param->name);
    if (param.unit != open) open_unit(open = param.unit);
    if (origin.source == nullptr) {
      ParamTable::draw(param, seed);
      report.drawn.push_back(param.name);
      continue;
    }
    float* value = param.value.f32();
    origin.source->tensors.read_f32(origin.name, 0, origin.elements, value);
    if (origin.elements == param.numel()) continue;
    const int64_t cols = param.value.cols();
    const int64_t begin = origin.elements / cols;
    const int64_t end = param.shape[0];
    report.added_token_rows = end - begin;
    if (config.compat_visualchat) {
      // Keyed by the tensor in the file, so that lang_embed starts as a copy of embed_tokens.
      fill_with_normal(value, begin, end, cols, initializer_range(sources.lm_directory),
                       RandomStream(seed, "added_token_rows", hash_name(origin.name)));
    } else {
      fill_with_mean(value, begin, end, cols);
    }
  }
  open_unit(kNoUnit);
  return report;
}

}  // namespace facet
