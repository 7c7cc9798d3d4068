#include "checkpoint/hugging_face.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>

#include "data/image_preprocess.h"
#include "data/tokenizer.h"
#include "io/json.h"
#include "kernels/cpu/backend.h"
#include "tests/checkpoint/tiny_model.h"

namespace facet {
namespace {

// One sample: text, an image, text.
MicroBatch small_batch(const VlmConfig& config) {
  MicroBatch batch;
  batch.token_ids = {1, 4, 9, 5, 7, 2};
  batch.labels = {-100, -100, -100, 5, 7, 2};
  batch.sample_begin = {0, 6};
  batch.images_per_sample = {1};
  batch.dataset_of_sample = {0};
  batch.sample_ids = {0};
  batch.image_token_id = 9;
  batch.image_size = static_cast<int32_t>(config.image_size);
  RandomStream stream(5, "pixels");
  for (int64_t i = 0; i < 3 * config.image_size * config.image_size; ++i)
    batch.pixels.push_back(static_cast<float>(stream.normal()));
  return batch;
}

std::vector<float> logits_of(Model& model) {
  CpuBackend ops(2);
  Arena arena("activations", 64 << 20);
  UnitHooks hooks;
  Context ctx{ops, arena, hooks};
  std::vector<float> logits;
  model.model->all_logits(ctx, small_batch(model.config), logits);
  return logits;
}

TEST(LoadPretrained, FillsEveryParameter) {
  Sources sources;
  Model model(with_lora(sources.config));
  const LoadReport report = load_pretrained(model.table, model.config, sources.pretrained(), 1);
  for (const auto& [name, tensor] : sources.decoder)
    EXPECT_EQ(model.values(("lang_decoder." + name).c_str()), tensor.second) << name;
  for (const auto& [name, tensor] : sources.vision)
    EXPECT_EQ(model.values(("vis_encoder." + name).c_str()), tensor.second) << name;
  EXPECT_EQ(model.values("lang_embed.weight"), sources.decoder["model.embed_tokens.weight"].second);
  for (const Param& param : model.table.params())
    for (const float x : values_of(param)) ASSERT_TRUE(std::isfinite(x)) << param.name;
  for (const Param& param : model.table.params()) {
    if (!param.name.ends_with("lora_left_weight")) continue;
    for (const float x : values_of(param)) EXPECT_EQ(x, 0);
  }
  EXPECT_EQ(report.added_token_rows, 0);
  EXPECT_EQ(report.projection_file, "");
  EXPECT_FALSE(report.drawn.empty());
}

TEST(LoadPretrained, AddedTokensGetTheMeanOfTheRows) {
  Sources sources;
  sources.config.lm.vocab_size = kFileRows + 2;
  Model model(sources.config);
  EXPECT_EQ(load_pretrained(model.table, model.config, sources.pretrained(), 1).added_token_rows,
            2);
  const int64_t width = sources.config.lm.hidden_size;
  for (const auto& [name, file_name] :
       {std::pair{"lang_decoder.model.embed_tokens.weight", "model.embed_tokens.weight"},
        std::pair{"lang_decoder.lm_head.weight", "lm_head.weight"},
        std::pair{"lang_embed.weight", "model.embed_tokens.weight"}}) {
    const std::vector<float>& rows = sources.decoder[file_name].second;
    const std::vector<float> loaded = model.values(name);
    for (int64_t j = 0; j < width; ++j) {
      double mean = 0;
      for (int64_t i = 0; i < kFileRows; ++i) mean += rows[static_cast<size_t>(i * width + j)];
      mean /= static_cast<double>(kFileRows);
      for (const int64_t added : {kFileRows, kFileRows + 1})
        EXPECT_EQ(loaded[static_cast<size_t>(added * width + j)], static_cast<float>(mean)) << name;
    }
    EXPECT_TRUE(std::equal(rows.begin(), rows.end(), loaded.begin()));
  }
}

TEST(LoadPretrained, CompatDrawsTheAddedTokensFromInitializerRange) {
  Sources sources;
  sources.config.lm.vocab_size = kFileRows + 300;
  sources.config.compat_visualchat = true;
  Model model(sources.config);
  load_pretrained(model.table, model.config, sources.pretrained(), 1);
  const std::vector<float> embed = model.values("lang_decoder.model.embed_tokens.weight");
  const std::vector<float> head = model.values("lang_decoder.lm_head.weight");
  EXPECT_EQ(model.values("lang_embed.weight"), embed);
  double squares = 0, product = 0;
  const size_t begin = static_cast<size_t>(kFileRows * 16);
  for (size_t i = begin; i < embed.size(); ++i) {
    squares += static_cast<double>(embed[i]) * embed[i];
    product += static_cast<double>(embed[i]) * head[i];
  }
  const auto n = static_cast<double>(embed.size() - begin);
  EXPECT_NEAR(std::sqrt(squares / n), 0.3, 5 * 0.3 / std::sqrt(2 * n));
  EXPECT_NEAR(product / n, 0, 5 * 0.09 / std::sqrt(n));  // drawn independently
}

TEST(LoadPretrained, WholeClipFilesAndOldBuffersAreUnderstood) {
  Sources sources;
  for (const char* name :
       {"text_model.embeddings.token_embedding.weight", "logit_scale", "text_projection.weight",
        "visual_projection.weight", "vision_model.embeddings.position_ids"})
    sources.vision[name] = {{2}, {1, 2}};
  sources.decoder["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{2}, {1, 2}};
  sources.write();
  EXPECT_EQ(sources.load_error(), "");
}

TEST(LoadPretrained, AllMisfitsAreListedAtOnce) {
  Sources sources;
  sources.decoder.erase("model.norm.weight");
  sources.decoder["model.layers.1.mlp.up_proj.weight"] = {{16, 24}, std::vector<float>(384)};
  sources.vision.erase("vision_model.pre_layrnorm.bias");
  sources.write();
  const std::string error = sources.load_error();
  EXPECT_TRUE(error.starts_with("78: "));
  EXPECT_TRUE(mentions(error, "(3 tensors)"));
  EXPECT_TRUE(mentions(error, "missing: model.norm.weight (16)"));
  EXPECT_TRUE(mentions(error, "missing: vision_model.pre_layrnorm.bias"));
  EXPECT_TRUE(mentions(error, "wrong shape: model.layers.1.mlp.up_proj.weight is (16, 24)"));
  EXPECT_TRUE(mentions(error, "asks for (24, 16)"));
  EXPECT_EQ(error_of([&] {
              ParamTable table;
              VisionLanguageModel model(sources.config, table);
              check_pretrained(table, sources.config, sources.pretrained());
            }),
            error);
  sources.decoder.clear();
  sources.write();
  EXPECT_TRUE(mentions(sources.load_error(), "more"));
}

size_t occurrences(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(LoadPretrained, AMissingTensorIsNamedOnceWithTheReason) {
  Sources sources;
  const auto error_without = [&](const std::string& name) {
    const Tensors whole = sources.decoder;
    sources.decoder.erase(name);
    sources.write();
    sources.decoder = whole;
    return sources.load_error();
  };
  EXPECT_EQ(occurrences(error_without("model.embed_tokens.weight"), "embed_tokens.weight"), 1u);
  EXPECT_TRUE(mentions(error_without("lm_head.weight"),
                       "models/lm/config.json must say \"tie_word_embeddings\": true"));
  EXPECT_FALSE(mentions(error_without("model.norm.weight"), "\n the files have"));

  const auto error_renamed = [&](auto&& rename) {
    const Tensors whole = std::exchange(sources.decoder, {});
    for (const auto& [name, tensor] : whole) sources.decoder[rename(name)] = tensor;
    sources.write();
    sources.decoder = whole;
    return sources.load_error();
  };
  const auto below = [](const std::string& prefix) {
    return [prefix](const std::string& name) { return prefix + name; };
  };
  EXPECT_TRUE(mentions(error_renamed(below("language_model.")),
                       "with \"language_model.\" where no prefix is expected"));
  EXPECT_TRUE(mentions(error_renamed(below("transformer.")), "with \"transformer.\""));
  EXPECT_TRUE(mentions(error_renamed([](const std::string& name) {
                         return name.starts_with("model.")
                                    ? "model.language_model." + name.substr(6)
                                    : name;
                       }),
                       "with \"model.language_model.\" where \"model.\" is expected"));
  EXPECT_TRUE(mentions(error_renamed([](const std::string& name) {
                         return "base_model.model." + name.substr(0, name.size() - 6) +
                                "lora_A.weight";
                       }),
                       "adapter (PEFT)"));
  EXPECT_TRUE(mentions(error_renamed([](const std::string& name) {
                         return name == "model.embed_tokens.weight" ? "tok_embeddings.weight"
                                                                    : "x." + name;
                       }),
                       "consolidated.00.pth"));
  EXPECT_TRUE(mentions(error_renamed([](const std::string& name) {
                         return name.ends_with("proj.weight")
                                    ? name.substr(0, name.size() - 6) + "qweight"
                                    : name;
                       }),
                       "quantised weights (GPTQ, AWQ)"));
}

// Of wrappers around the model, and of its class without a head.
TEST(LoadPretrained, ModelsWithOtherPrefixesAreRead) {
  const auto read_with = [](auto&& rename) {
    Sources sources;
    for (Tensors* part : {&sources.decoder, &sources.vision})
      for (const auto& [name, tensor] : std::exchange(*part, {})) (*part)[rename(name)] = tensor;
    sources.write();
    Model model(sources.config);
    const LoadReport report = load_pretrained(model.table, sources.config, sources.pretrained(), 1);
    EXPECT_EQ(report.unused, std::vector<std::string>{});
    return std::pair(tensors_under(model.table, "lang_decoder."),
                     tensors_under(model.table, "vis_encoder."));
  };
  const auto as_they_are = read_with([](const std::string& name) { return name; });
  for (const std::string prefix :
       {"base_model.model.", "module.", "_orig_mod.", "module._orig_mod."})
    EXPECT_EQ(read_with([&](const std::string& name) { return prefix + name; }), as_they_are)
        << prefix;
  for (const std::string prefix : {"", "base_model.model.", "module."})
    EXPECT_EQ(read_with([&](const std::string& name) {
                return prefix +
                       (name.starts_with("lm_head.") ? name : name.substr(name.find('.') + 1));
              }),
              as_they_are)
        << prefix;
}

TEST(LoadPretrained, TensorsThatNobodyAsksForAreNamedInAWarning) {
  Sources sources;
  sources.decoder["model.layers.2.mlp.up_proj.weight"] = {{24, 16}, std::vector<float>(384)};
  for (int i = 0; i < 30; ++i) sources.vision[fmt::format("extra.{:02}", i)] = {{1}, {0}};
  sources.write();
  Model model(sources.config);
  const LoadReport report = load_pretrained(model.table, model.config, sources.pretrained(), 1);
  ASSERT_EQ(report.unused.size(), 2u);
  EXPECT_TRUE(mentions(report.unused[0], "models/lm: 1 tensors"));
  EXPECT_TRUE(mentions(report.unused[0], "model.layers.2.mlp.up_proj.weight (24, 16)"));
  EXPECT_TRUE(mentions(report.unused[1], "30 tensors"));
  EXPECT_TRUE(mentions(report.unused[1], "extra.09 (1) and 20 more"));
  ParamTable table;
  VisionLanguageModel declared(sources.config, table);
  EXPECT_EQ(check_pretrained(table, sources.config, sources.pretrained()), report.unused);
}

TEST(LoadPretrained, VocabularyContradictions) {
  Sources sources;
  const int64_t width = sources.config.lm.hidden_size;
  Tensors good = sources.decoder;
  sources.config.lm.vocab_size = kFileRows - 1;
  EXPECT_TRUE(mentions(sources.load_error(), "vocab_size 11 is more than the 10 rows"));
  sources.config.lm.vocab_size = kFileRows + 2;
  sources.decoder["lm_head.weight"] = {
      {kFileRows - 1, width}, std::vector<float>(static_cast<size_t>((kFileRows - 1) * width))};
  sources.write();
  EXPECT_TRUE(mentions(sources.load_error(), "lm_head.weight is (10, 16)"));
}

TEST(LoadPretrained, ATiedHeadIsOneParameter) {
  Sources sources(
      replaced(kTinyLlama, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
  EXPECT_FALSE(sources.decoder.contains("lm_head.weight"));
  EXPECT_EQ(sources.load_error(), "");
  VlmConfig larger = sources.config;  // rows of added tokens: alike in the head and in lang_embed
  larger.lm.vocab_size = kFileRows + 2;
  Model model(larger);
  load_pretrained(model.table, larger, sources.pretrained(), 1);
  EXPECT_EQ(model.values("lang_decoder.model.embed_tokens.weight"),
            model.values("lang_embed.weight"));
  sources.decoder["lm_head.weight"] = sources.decoder["model.embed_tokens.weight"];
  sources.write();
  EXPECT_EQ(sources.load_error(), "");
}

TEST(ExportModel, FusedLoraEqualsTheFormula) {
  Sources sources;
  sources.config.lm.vocab_size = kFileRows + 2;
  Model model(with_lora(sources.config));
  load_and_train(model, sources.pretrained());
  std::vector<std::vector<float>> before;
  for (const Param& param : model.table.params()) before.push_back(values_of(param));
  export_to(sources.directory / "epoch-0/", model, sources.exported());
  size_t index = 0;  // the values in training stay as they are
  for (const Param& param : model.table.params()) EXPECT_EQ(values_of(param), before[index++]);

  int fused = 0;
  for (const auto& [prefix, part, lora] :
       {std::tuple{"lang_decoder.", "lang_decoder", model.config.lang_lora},
        std::tuple{"vis_encoder.", "vis_encoder", model.config.vis_lora}}) {
    const Tensors written =
        read_tensors(sources.directory / ("epoch-0/" + std::string(part) + "/model.safetensors"));
    for (const auto& [name, tensor] : written) {
      const Param& weight = *model.table.find(prefix + name);
      const std::string module = weight.name.substr(0, weight.name.size() - 6);
      const Param* right = model.table.find(module + "lora_right_weight");
      const Param* left = model.table.find(module + "lora_left_weight");
      if (right == nullptr) {
        const bool table = name == "model.embed_tokens.weight";
        EXPECT_EQ(tensor.second, values_of(table ? *model.table.find("lang_embed.weight") : weight))
            << name;
        continue;
      }
      ++fused;
      const int64_t outputs = weight.shape[0], inputs = weight.shape[1];
      for (int64_t o = 0; o < outputs; ++o)
        for (int64_t i = 0; i < inputs; ++i) {
          double product = 0;
          for (int64_t k = 0; k < lora.rank; ++k)
            product += static_cast<double>(right->value.f32()[i * lora.rank + k]) *
                       left->value.f32()[k * outputs + o];
          const auto rank = static_cast<double>(lora.rank);
          const double divisor = lora.rank_stabilised ? std::sqrt(rank) : rank;
          const double exact = weight.value.f32()[o * inputs + i] +
                               static_cast<double>(lora.alpha) / divisor * product;
          EXPECT_NEAR(tensor.second[static_cast<size_t>(o * inputs + i)], exact, 1e-6) << name;
        }
    }
  }
  EXPECT_EQ(fused, 2 * 7 + 2 * 6);
}

TEST(ExportModel, TheProgramStartsFromWhatItExported) {
  Sources sources;
  sources.config.lm.vocab_size = kFileRows + 2;
  for (const ProjectionKind kind : {ProjectionKind::kBaseline, ProjectionKind::kVit}) {
    sources.config.projection = kind;
    Model model(with_lora(sources.config));
    load_and_train(model, sources.pretrained());
    const std::string out = sources.directory / "out/epoch-0";
    export_to(out, model, sources.exported());
    export_to(out, model, sources.exported());  // replaces the first

    VlmConfig config = sources.config;
    config.lm = read_llama_config(out + "/lang_decoder");
    config.vision = read_vision_config(out + "/vis_encoder");
    EXPECT_EQ(config.lm.vocab_size, kFileRows + 2);
    EXPECT_EQ(config.lm.rope_theta, 5000);
    Model again(config);
    const LoadReport report =
        load_pretrained(again.table, config, {out + "/lang_decoder", out + "/vis_encoder", ""}, 2);
    EXPECT_TRUE(mentions(report.projection_file, "out/epoch-0/projection.safetensors"));
    EXPECT_TRUE(report.drawn.empty());
    EXPECT_EQ(report.added_token_rows, 0);
    EXPECT_EQ(again.values("lang_embed.weight"), model.values("lang_embed.weight"));
    const std::vector<float> expected = logits_of(model);
    const std::vector<float> got = logits_of(again);
    ASSERT_EQ(got.size(), expected.size());
    double difference = 0, norm = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      difference += std::pow(static_cast<double>(got[i]) - expected[i], 2);
      norm += std::pow(static_cast<double>(expected[i]), 2);
    }
    EXPECT_GT(norm, 0);
    // Rounding only: W + scale (R L)' is rounded once, x R L is not; 2e-7 was measured.
    EXPECT_LT(std::sqrt(difference / norm), 1e-6);
  }
  const auto entries = std::filesystem::directory_iterator(sources.directory / "out");
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

// A whole SiglipModel goes in, a SiglipVisionModel without the pooling head comes out.
TEST(ExportModel, SiglipIsExportedWithoutItsHead) {
  Sources sources(kTinyLlama, kTinySiglip);
  for (const char* name : {"vision_model.head.probe", "vision_model.head.mlp.fc1.weight",
                           "text_model.head.weight", "logit_scale", "logit_bias"})
    sources.vision[name] = {{2}, {1, 2}};
  sources.write();
  Model model(sources.config);
  EXPECT_TRUE(load_pretrained(model.table, model.config, sources.pretrained(), 1).unused.empty());
  const std::string out = sources.directory / "out";
  export_to(out, model, sources.exported());
  const JsonDocument config = JsonDocument::read_config(out + "/vis_encoder/config.json");
  EXPECT_EQ(config.root().at("architectures").at(0).as_string(), "SiglipVisionModel");
  EXPECT_EQ(config.root().at("model_type").as_string(), "siglip_vision_model");
  EXPECT_FALSE(config.root().at("vision_use_head").as_bool());
  EXPECT_EQ(config.root().at("torch_dtype").as_string(), "float32");
  const Tensors written = read_tensors(out + "/vis_encoder/model.safetensors");
  EXPECT_TRUE(written.contains("vision_model.embeddings.patch_embedding.bias"));
  for (const auto& [name, tensor] : written) EXPECT_EQ(tensor, sources.vision.at(name)) << name;
  EXPECT_EQ(written.size() + 5, sources.vision.size());
  EXPECT_EQ(read_vision_config(out + "/vis_encoder").family, VisionFamily::kSiglip);
}

// The tensors of the encoder among those of a whole model go in, the encoder alone comes out, with
// the pixels that its own code makes.
TEST(ExportModel, QwenVlsEncoderIsTakenOutOfTheWholeModel) {
  Sources sources(kTinyLlama, kTinyQwenVl);
  sources.config.image_size = 16;
  const Tensors alone = sources.vision;
  sources.vision.clear();
  for (const auto& [name, tensor] : alone) sources.vision["transformer.visual." + name] = tensor;
  sources.vision["transformer.visual.proj"] = sources.vision["transformer.wte.weight"] = {{1}, {1}};
  sources.write();
  std::filesystem::remove(sources.directory / "clip/preprocessor_config.json");
  Model model(sources.config);
  EXPECT_TRUE(load_pretrained(model.table, model.config, sources.pretrained(), 1).unused.empty());
  const std::string out = sources.directory / "out";
  export_to(out, model, sources.exported());
  EXPECT_EQ(read_tensors(out + "/vis_encoder/model.safetensors"), alone);
  const VisionConfig again = read_vision_config(out + "/vis_encoder");
  EXPECT_EQ(again.family, VisionFamily::kQwenVl);
  EXPECT_EQ(again.intermediate_size, sources.config.vision.intermediate_size);
  EXPECT_EQ(again.num_attention_heads, 2);
  EXPECT_EQ(again.grid(), 16);
  const auto pixels = [](const std::string& directory) {
    return ImagePreprocessor(read_image_preprocess_config(directory)).text();
  };
  EXPECT_TRUE(mentions(pixels(out + "/vis_encoder"), "each side 16, centre crop of 16"));
  EXPECT_EQ(pixels(out + "/vis_encoder"), pixels(sources.directory / "clip"));
  Model loaded(sources.config);
  load_pretrained(loaded.table, loaded.config, {out + "/lang_decoder", out + "/vis_encoder", ""},
                  2);
  EXPECT_EQ(logits_of(loaded), logits_of(model));
}

TEST(ExportModel, RecordsWhatItWasTrainedWith) {
  Sources sources;
  sources.config.mmca = true;
  sources.config.vision_feature_layer = -2;
  Model model(sources.config);
  load_pretrained(model.table, model.config, sources.pretrained(), 1);
  const std::string out = sources.directory / "out";
  export_to(out, model, sources.exported());
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out))
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  const int64_t estimated =
      estimated_export_bytes(model.table, model.config, sources.exported(), {});
  EXPECT_GE(estimated, bytes);
  EXPECT_LE(estimated, bytes + 100'000);
  const PretrainedSources exported{out + "/lang_decoder", out + "/vis_encoder", ""};
  const auto choices_of = [&](const VlmConfig& config) {
    Model again(config);
    return load_pretrained(again.table, config, exported, 1).differing_choices;
  };
  EXPECT_TRUE(choices_of(sources.config).empty());
  VlmConfig other = sources.config;
  other.mmca = false;
  other.vision_feature_layer = -1;
  const std::vector<std::string> differing = choices_of(other);
  ASSERT_EQ(differing.size(), 2u);
  EXPECT_TRUE(mentions(differing[0], "--enable_mmca_attention"));
  EXPECT_TRUE(mentions(differing[0], "trained with true"));
  EXPECT_TRUE(mentions(differing[1], "--vision_feature_layer"));
}

TEST(ExportModel, ATiedHeadKeepsItsOwnTable) {
  Sources sources(
      replaced(kTinyLlama, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
  Model model(sources.config);
  model.randomize(8);
  export_to(sources.directory / "e", model, sources.exported());
  const Tensors decoder = read_tensors(sources.directory / "e/lang_decoder/model.safetensors");
  EXPECT_EQ(decoder.at("model.embed_tokens.weight").second,
            sources.decoder.at("model.embed_tokens.weight").second);
  EXPECT_FALSE(decoder.contains("lm_head.weight"));
  EXPECT_EQ(
      read_tensors(sources.directory / "e/projection.safetensors").at("lang_embed.weight").second,
      model.values("lang_embed.weight"));
}

// Biases and windows go in and out under the family's own names.
TEST(ExportModel, AQwen2ModelStaysOne) {
  Sources sources(
      replaced(replaced(replaced(kTinyLlama, "LlamaForCausalLM", "Qwen2ForCausalLM"), "\"llama\"",
                        "\"qwen2\""),
               "\"bos_token_id\": 1",
               R"("use_sliding_window": true, "sliding_window": 3, "max_window_layers": 1)"));
  Model model(with_lora(sources.config));
  load_pretrained(model.table, model.config, sources.pretrained(), 1);
  const std::string name = "model.layers.1.self_attn.k_proj.bias";
  EXPECT_EQ(model.values(("lang_decoder." + name).c_str()), sources.decoder.at(name).second);
  const std::string out = sources.directory / "qwen2";
  export_to(out, model, sources.exported());
  const JsonDocument config = JsonDocument::read_config(out + "/lang_decoder/config.json");
  EXPECT_EQ(config.root().at("model_type").as_string(), "qwen2");
  EXPECT_EQ((*config.root().at("architectures").begin()).as_string(), "Qwen2ForCausalLM");
  EXPECT_EQ(config.root().at("sliding_window").as_int(), 3);
  const Tensors written = read_tensors(out + "/lang_decoder/model.safetensors");
  EXPECT_EQ(written.at(name), sources.decoder.at(name));
  EXPECT_FALSE(written.contains("model.layers.1.self_attn.o_proj.bias"));
}

TEST(ExportModel, ConfigsKeepWhatTheSourceSays) {
  Sources sources;
  sources.directory.put(
      "clip/config.json",
      fmt::format(R"({{"model_type": "clip", "projection_dim": 7, "vision_config": {}}})",
                  kTinyClip));
  sources.config.lm.vocab_size = kFileRows + 2;
  Model model(sources.config);
  model.randomize(8);
  const std::string out = sources.directory / "e";
  export_to(out, model, sources.exported());
  const JsonDocument lm = JsonDocument::read(out + "/lang_decoder/config.json");
  EXPECT_EQ(lm.root().at("vocab_size").as_int(), kFileRows + 2);
  EXPECT_EQ(lm.root().at("torch_dtype").as_string(), "float32");
  EXPECT_EQ(lm.root().at("initializer_range").as_double(), 0.3);
  EXPECT_TRUE(lm.root().at("rope_scaling").is_null());
  const JsonDocument clip = JsonDocument::read(out + "/vis_encoder/config.json");
  EXPECT_EQ(clip.root().at("model_type").as_string(), "clip_vision_model");
  EXPECT_EQ(clip.root().at("patch_size").as_int(), 4);
  EXPECT_EQ(read_file(out + "/vis_encoder/preprocessor_config.json", 100), "{\"size\": 8}");
  EXPECT_EQ(read_file(out + "/lang_decoder/tokenizer.model", 100), "pieces");
  const JsonDocument added = JsonDocument::read(out + "/lang_decoder/added_tokens.json");
  EXPECT_EQ(added.root().at("<image>").as_int(), 12);
}

TEST(ExportModel, TheTokenizerKeepsItsTokensRolesAndMarks) {
  Sources sources;
  Model model(sources.config);
  model.randomize(8);
  ExportSources exported = sources.exported();
  exported.added_tokens = {{.text = "</s>", .id = 2}, {.text = "<pad>", .id = 11, .rstrip = true}};
  exported.tokenizer_pieces = 11;
  exported.token_roles = {{"pad_token", "<pad>"}, {"additional_special_tokens", "<image>"}};
  exported.space_marks = SpaceMarks::kNone;
  const std::string out = sources.directory / "e";
  export_to(out, model, exported);
  const JsonDocument added = JsonDocument::read(out + "/lang_decoder/added_tokens.json");
  EXPECT_EQ(added.root().size(), 1);
  EXPECT_EQ(added.root().at("<pad>").as_int(), 11);
  const JsonDocument config = JsonDocument::read(out + "/lang_decoder/tokenizer_config.json");
  EXPECT_FALSE(config.root().at("legacy").as_bool());
  EXPECT_FALSE(config.root().at("add_prefix_space").as_bool());
  EXPECT_EQ(config.root().at("pad_token").as_string(), "<pad>");
  EXPECT_EQ(config.root().at("additional_special_tokens").at(int64_t{0}).as_string(), "<image>");
  const JsonValue decoder = config.root().at("added_tokens_decoder");
  EXPECT_EQ(decoder.at("2").at("content").as_string(), "</s>");
  EXPECT_TRUE(decoder.at("11").at("rstrip").as_bool());
  exported.space_marks = SpaceMarks::kEveryPiece;
  export_to(out, model, exported);
  const JsonDocument again = JsonDocument::read(out + "/lang_decoder/tokenizer_config.json");
  EXPECT_TRUE(again.root().at("legacy").as_bool());
  EXPECT_FALSE(again.root().find("add_prefix_space").has_value());
}

// What was exported reads as the tokenizer of the run.
TEST(ExportModel, TokenizerJsonGetsTheTokensOfTheRun) {
  Sources sources;
  Model model(sources.config);
  model.randomize(8);
  const std::string lm = sources.directory / "models/lm";
  std::filesystem::remove(lm + "/tokenizer.model");
  for (const char* file : {"/tokenizer.json", "/tokenizer_config.json"})
    std::filesystem::copy(std::string("tests/golden/data/tokenizers/llama3") + file, lm + file);
  write_file(lm + "/generation_config.json", "{\"eos_token_id\": 9}");
  const Tokenizer trained(lm, PromptStyle::kCorrect);
  ExportSources exported = sources.exported();
  exported.tokenizer_file = trained.file();
  exported.added_tokens = trained.split_tokens();
  exported.tokenizer_pieces = trained.num_pieces();
  exported.token_roles = trained.token_roles();
  export_to(sources.directory / "e", model, exported);
  const Tokenizer again(sources.directory / "e/lang_decoder", PromptStyle::kCorrect);
  EXPECT_EQ(read_end_tokens(sources.directory / "e/lang_decoder"), std::vector<int32_t>{9});
  EXPECT_EQ(again.base_vocab_size(), trained.vocab_size());
  EXPECT_EQ(again.vocab_size(), trained.vocab_size());
  EXPECT_EQ(again.image_id(), trained.image_id());
  EXPECT_EQ(again.bos_id(), trained.bos_id());
  EXPECT_EQ(again.eos_id(), trained.eos_id());
  const std::string text = "<image> It's <both> the <word> caf\u00e9 12345<|eot_id|>";
  EXPECT_EQ(again.encode(text), trained.encode(text));
}

TEST(ExportModel, AnUnwritablePlaceIsOneError) {
  Sources sources;
  Model model(sources.config);
  model.randomize(8);
  const std::string file = sources.directory.put("file", "x");
  EXPECT_TRUE(mentions(error_of([&] { export_to(file + "/epoch-0", model, sources.exported()); }),
                       "74: " + file));
}

}  // namespace
}  // namespace facet
