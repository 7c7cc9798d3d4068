#include "train/model_setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/adapter.h"
#include "checkpoint/model_choices.h"
#include "optim/partition.h"
#include "train/stored_model.h"
#include "zero/values.h"

namespace facet {

namespace {

// V: the model's own rows, or more when the tokenizer has added tokens.
int64_t vocabulary_size(int64_t rows_in_model, const Tokenizer& tokenizer) {
  CHECK(tokenizer.num_pieces() <= rows_in_model, ExitCode::kConfig,
        "the tokenizer has {} pieces, but the language model's vocab_size is {}: they don't belong "
        "together",
        tokenizer.num_pieces(), rows_in_model);
  return std::max(rows_in_model, tokenizer.vocab_size());
}

ProjectionKind projection_kind(const std::string& vis_proj) {
  if (vis_proj == "baseline") return ProjectionKind::kBaseline;
  if (vis_proj == "vit") return ProjectionKind::kVit;
  if (vis_proj == "perceiver") return ProjectionKind::kPerceiver;
  if (vis_proj == "mlp2x_gelu") return ProjectionKind::kMlp;
  fail(ExitCode::kInternal, "no projection is called {}", vis_proj);
}

LoraConfig lang_lora_of(const Options& options) {
  return {.rank = options.lang_lora_dim,
          .alpha = static_cast<float>(options.lang_lora_alpha),
          .module_name = options.lang_lora_module_name,
          .compat_init = options.visualchat(),
          .rank_stabilised = options.lang_lora_rslora,
          .dora = options.lang_lora_dora};
}

LoraConfig vis_lora_of(const Options& options) {
  return {.rank = options.vis_lora_dim,
          .alpha = static_cast<float>(options.vis_lora_alpha),
          .module_name = options.vis_lora_module_name,
          .compat_init = options.visualchat(),
          .rank_stabilised = options.vis_lora_rslora,
          .dora = options.vis_lora_dora};
}

void check_vision(const VlmConfig& config) {
  const VisionTraits& traits = config.vision.traits();
  CHECK(traits.margin || config.image_size % config.vision.patch_size == 0, ExitCode::kConfig,
        "images of {} pixels a side can't be cut into patches of {}; give another --image_size",
        config.image_size, config.vision.patch_size);
  CHECK(traits.class_token || !config.drop_class_token, ExitCode::kConfig,
        "--drop_class_token: the {} vision encoder has no class token; leave it out", traits.name);
}

// An export says so with LlavaImageProcessor, which has no other sizes than CLIP's.
void pad_images(ImagePreprocessConfig& pixels) {
  CHECK(pixels.resize_to == ResizeTo::kShortestEdge, ExitCode::kConfig,
        "--image_aspect_ratio pad: not with the image processor of SigLIP or Qwen-VL, which "
        "resizes to a square itself; leave it out");
  pixels.do_pad = true;
}

// What an adapter says of its LoRA stands; options may repeat it.
void check_same_lora(const std::string& side, const AdapterPart& part, const LoraConfig& asked) {
  const LoraConfig none;
  const bool same_rank = asked.rank == 0 || asked.rank == part.lora.rank;
  const bool same_alpha = asked.alpha == none.alpha || asked.alpha == part.lora.alpha;
  CHECK(same_rank && same_alpha, ExitCode::kConfig,
        "{}/adapter_config.json has LoRA of rank {} and alpha {}, --{}_lora_dim says {} and "
        "--{}_lora_alpha {}; leave these out",
        part.directory, part.lora.rank, part.lora.alpha, side, asked.rank, side, asked.alpha);
  CHECK(part.lora.rank_stabilised || !asked.rank_stabilised, ExitCode::kConfig,
        "{}/adapter_config.json has LoRA without use_rslora; leave --{}_lora_rslora out",
        part.directory, side);
  CHECK(part.lora.dora || !asked.dora, ExitCode::kConfig,
        "{}/adapter_config.json has LoRA without use_dora; leave --{}_lora_dora out",
        part.directory, side);
}

void take_lora_of_adapter(const Options& options, VlmConfig& config) {
  const Adapter adapter = read_adapter(options.adapter);
  const auto take = [](const char* side, const std::optional<AdapterPart>& part, LoraConfig& lora) {
    if (!part) return;
    check_same_lora(side, *part, lora);
    lora = part->lora;
  };
  take("lang", adapter.lang, config.lang_lora);
  take("vis", adapter.vision, config.vis_lora);
  if (adapter.lang) config.saved_modules = adapter.lang->saved_modules;
}

void load_from_files(const Options& options, ModelSetup& setup, const OpenUnit& open_unit) {
  const LoadReport report = load_weights(options, setup, open_unit);
  log_line(report.read_from);
  CHECK(report.differing_choices.empty(), ExitCode::kConfig,
        "{} was trained with other choices; give them here too:\n  {}", report.projection_file,
        fmt::join(report.differing_choices, "\n  "));
  for (const std::string& line : report.unused) warn_line(line);
}

// Is there a LoRA matrix below this prefix?
bool has_lora(const ParamTable& table, const std::string& prefix) {
  return std::any_of(table.params().begin(), table.params().end(), [&](const Param& param) {
    return param.role == ParamRole::kLora && param.name.starts_with(prefix);
  });
}

}  // namespace

// What is wrong with a directory that is no adapter is said when the model is declared.
Options with_lora_of_adapter(Options options) {
  if (options.adapter.empty() || !is_adapter(options.adapter)) return options;
  const Adapter adapter = read_adapter(options.adapter);
  if (adapter.lang) {
    check_same_lora("lang", *adapter.lang, lang_lora_of(options));
    options.lang_lora_dim = adapter.lang->lora.rank;
    options.lang_lora_alpha = static_cast<double>(adapter.lang->lora.alpha);
    options.lang_lora_rslora = adapter.lang->lora.rank_stabilised;
    options.lang_lora_dora = adapter.lang->lora.dora;
  }
  if (adapter.vision) {
    check_same_lora("vis", *adapter.vision, vis_lora_of(options));
    options.vis_lora_dim = adapter.vision->lora.rank;
    options.vis_lora_alpha = static_cast<double>(adapter.vision->lora.alpha);
    options.vis_lora_rslora = adapter.vision->lora.rank_stabilised;
    options.vis_lora_dora = adapter.vision->lora.dora;
  }
  return options;
}

std::unique_ptr<ModelSetup> declare_model(const Options& options, MissingTokenizer missing,
                                          GroupPlace group) {
  auto setup = std::make_unique<ModelSetup>();
  VlmConfig& config = setup->config;
  config.vision = read_vision_config(options.vision_model_name_or_path);
  config.lm = read_llama_config(options.lm_model_name_or_path);
  check_llava_features(options.lm_model_name_or_path, config.vision);
  // DeepSpeed-VisualChat sets it so: dynamic rotary scaling begins only there.
  if (options.visualchat()) config.lm.max_position_embeddings = options.max_seq_len;
  const bool there = !tokenizer_file(options.lm_model_name_or_path).empty();
  const bool needed = options.replay.empty() && missing == MissingTokenizer::kError;
  if (there || needed) {
    setup->tokenizer = std::make_unique<Tokenizer>(
        options.lm_model_name_or_path,
        options.visualchat() ? PromptStyle::kVisualChat : PromptStyle::kCorrect);
    config.lm.vocab_size = vocabulary_size(config.lm.vocab_size, *setup->tokenizer);
    setup->end_tokens = read_end_tokens(options.lm_model_name_or_path);
  } else if (options.replay.empty()) {
    config.lm.vocab_size += 2;  // "### Image:", "<image>"
    if (options.visualchat() && !names_pad_token(options.lm_model_name_or_path))
      ++config.lm.vocab_size;  // "<PAD>"
  }
  ImagePreprocessConfig pixels = read_image_preprocess_config(options.vision_model_name_or_path);
  if (options.image_aspect_ratio == "pad") pad_images(pixels);
  setup->preprocessor = std::make_unique<ImagePreprocessor>(
      pixels, options.image_size,
      options.visualchat() ? PixelRounding::kFp16 : PixelRounding::kNone);

  config.projection = projection_kind(options.vis_proj);
  config.image_size = setup->preprocessor->image_size();
  config.vision_feature_layer = options.vision_feature_layer;
  config.drop_class_token = options.drop_class_token;
  config.mmca = options.enable_mmca_attention;
  config.compat_visualchat = options.visualchat();
  config.recompute = options.gradient_checkpointing;
  config.vision_image_by_image =
      !options.on_gpu() || options.vision_image_by_image || !options.feature_cache.empty();
  config.lang_lora = lang_lora_of(options);
  config.vis_lora = vis_lora_of(options);
  check_vision(config);
  if (!options.adapter.empty()) take_lora_of_adapter(options, config);
  CHECK(
      group.size == 1 || !config.lang_lora.dora, ExitCode::kConfig,
      "--inference_tp_size: not with DoRA, whose norms are of whole rows; leave the option out, or "
      "answer with a whole model, which facet export makes of an adapter");
  config.lm.group = group;
  check_shared(config.lm);
  setup->chat_template = options.chat_template;
  setup->model = std::make_unique<VisionLanguageModel>(config, setup->table);
  return setup;
}

void choose_trained(const Options& options, ParamTable& table) {
  std::string wrong;
  const auto set_all = [&](const char* option, const std::vector<std::string>& prefixes,
                           bool trained) {
    for (const std::string& prefix : prefixes)
      if (table.set_trained(prefix, trained) == 0)
        wrong +=
            fmt::format("\n  --{} {}: no trainable parameter's name starts so", option, prefix);
  };
  set_all("unfreeze", options.unfreeze, true);
  set_all("freeze", options.freeze, false);
  if (options.lang_lora_dim > 0 && !has_lora(table, "lang_decoder."))
    wrong += fmt::format("\n  --lang_lora_module_name {}: no linear's path contains it",
                         options.lang_lora_module_name);
  if (options.vis_lora_dim > 0 && !has_lora(table, "vis_encoder."))
    wrong += fmt::format("\n  --vis_lora_module_name {}: no linear's path contains it",
                         options.vis_lora_module_name);
  if (options.only_optimize_lora)
    for (const Param& param : table.params())
      if (!param.saved_as.empty() && param.name != "lang_embed.weight" && param.trained)
        wrong += fmt::format(
            "\n  --only_optimize_lora: the adapter has {} in its modules_to_save; leave the option "
            "out, or --freeze {}",
            param.saved_as, param.name);
  if (table.trained_elements() == 0) wrong += "\n  --freeze leaves nothing to train";
  CHECK(wrong.empty(), ExitCode::kConfig,
        "what is to be trained (names begin with vis_encoder. lang_decoder. lang_embed. "
        "projection.):{}",
        wrong);
}

std::string chat_template_as_trained(const Options& options) {
  const std::string recorded = recorded_chat_template(sources_of(options));
  if (recorded.empty() || recorded == options.chat_template) return options.chat_template;
  CHECK(options.chat_template == Options{}.chat_template, ExitCode::kConfig,
        "the model was trained with --chat_template {}, not {}; leave the option out", recorded,
        options.chat_template);
  CHECK(!options.visualchat(), ExitCode::kConfig,
        "--compat visualchat: the model was trained with --chat_template {}, which "
        "DeepSpeed-VisualChat does not have; leave the option out",
        recorded);
  log_line(fmt::format("conversations as the model was trained: --chat_template {}", recorded));
  return recorded;
}

DType compute_dtype(const Options& options) {
  if (options.precision == "bf16") return DType::kBF16;
  return options.precision == "fp16" ? DType::kF16 : DType::kF32;
}

PretrainedSources sources_of(const Options& options) {
  return {options.lm_model_name_or_path, options.vision_model_name_or_path, options.projection,
          options.adapter};
}

LoadReport load_weights(const Options& options, ModelSetup& setup, const OpenUnit& open_unit) {
  return load_pretrained(setup.table, setup.config, sources_of(options),
                         static_cast<uint64_t>(options.seed), open_unit);
}

Options with_models_of(Options options, const Options& given) {
  const auto take = [](std::string& value, const std::string& other) {
    if (!other.empty()) value = other;
  };
  const bool whole = options.vision_model_name_or_path == options.lm_model_name_or_path;  // LLaVA's
  take(options.lm_model_name_or_path, given.lm_model_name_or_path);
  if (whole) options.vision_model_name_or_path = options.lm_model_name_or_path;
  take(options.vision_model_name_or_path, given.vision_model_name_or_path);
  return options;
}

void load_weights_as_trained(const Options& options, ModelSetup& setup, Communicator& world,
                             Backend& ops, const StoredModel* stored) {
  if (stored == nullptr)  // before memory is taken
    check_pretrained(setup.table, setup.config, sources_of(options));
  setup.table.set_trained("", false);
  setup.table.place_in(ops.memory());
  setup.table.allocate(partition_padding(world.size()), ParamTable::Memory::kReal,
                       compute_dtype(options));
  Values values(setup.table, world, ops, {});
  if (stored == nullptr) {
    load_from_files(options, setup, values.filler());
  } else {
    log("from {}", stored->text());
    fill(setup.table, stored->read_as_exported(), values.filler());
  }
  setup.model->generate_as_original();
}

ExportSources export_sources(const Options& options, const ModelSetup& setup) {
  ExportSources sources;
  sources.pretrained = sources_of(options);
  sources.seed = static_cast<uint64_t>(options.seed);
  sources.chat_template = setup.chat_template;
  sources.pads_images = setup.preprocessor->pads();
  if (setup.tokenizer != nullptr) {
    sources.tokenizer_file = setup.tokenizer->file();
    sources.added_tokens = setup.tokenizer->split_tokens();
    sources.tokenizer_pieces = setup.tokenizer->num_pieces();
    sources.token_roles = setup.tokenizer->token_roles();
    sources.space_marks = setup.tokenizer->space_marks();
  }
  return sources;
}

}  // namespace facet
