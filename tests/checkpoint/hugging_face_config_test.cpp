#include <gtest/gtest.h>

#include <regex>

#include "checkpoint/hugging_face.h"
#include "tests/checkpoint/tiny_directories.h"

namespace facet {
namespace {

LlamaConfig llama_of(const std::string& text) {
  TemporaryDirectory directory;
  directory.put("config.json", text);
  return read_llama_config(directory.path());
}

std::string llama_error(const std::string& text) {
  return error_of([&] { llama_of(text); });
}

VisionConfig clip_of(const std::string& text, const char* tensor = "x") {
  TemporaryDirectory directory;
  directory.put("config.json", text);
  write_safetensors(directory / "model.safetensors", {to_write(tensor, {1}, {0})});
  return read_vision_config(directory.path());
}

std::string clip_error(const std::string& text) {
  return error_of([&] { clip_of(text); });
}

TEST(LlamaConfigFile, ADirectoryWithoutOneSaysWhatItHolds) {
  for (const auto& [file, what] : std::initializer_list<std::pair<const char*, const char*>>{
           {"adapter_model.safetensors", "adapter (PEFT)"},
           {"consolidated.00.pth", "original format"},
           {"README.md", "there is no config.json"}}) {
    TemporaryDirectory directory;
    directory.put(file, "x");
    const std::string error = error_of([&] { read_llama_config(directory.path()); });
    EXPECT_TRUE(mentions(error, "66: " + directory.path() + ": there is no config.json"));
    EXPECT_TRUE(mentions(error, what));
  }
}

TEST(LlamaConfigFile, EndTokensOfGenerationGoFirst) {
  TemporaryDirectory directory;
  const auto ends = [&] { return read_end_tokens(directory.path()); };
  EXPECT_EQ(ends(), std::vector<int32_t>{});
  directory.put("config.json", kTinyLlama);
  EXPECT_EQ(ends(), std::vector<int32_t>{2});
  directory.put("generation_config.json", R"({"eos_token_id": null})");
  EXPECT_EQ(ends(), std::vector<int32_t>{2});
  directory.put("generation_config.json", R"({"eos_token_id": [9, 10]})");
  EXPECT_EQ(ends(), (std::vector<int32_t>{9, 10}));
  directory.put("generation_config.json", R"({"eos_token_id": [9, -1]})");
  EXPECT_TRUE(mentions(error_of(ends), "eos_token_id[1]: -1 is no token id"));
}

TEST(LlamaConfigFile, FieldsAndDefaults) {
  const LlamaConfig config = llama_of(kTinyLlama);
  EXPECT_EQ(config.hidden_size, 16);
  EXPECT_EQ(config.intermediate_size, 24);
  EXPECT_EQ(config.num_hidden_layers, 2);
  EXPECT_EQ(config.num_attention_heads, 4);
  EXPECT_EQ(config.num_key_value_heads, 2);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.vocab_size, 11);
  EXPECT_EQ(config.max_position_embeddings, 64);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope_theta, 5000);
  EXPECT_FALSE(config.tie_word_embeddings);
  const LlamaConfig old = llama_of(R"({"model_type": "llama", "hidden_size": 16, "vocab_size": 7,
      "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4})");
  EXPECT_EQ(old.num_key_value_heads, 4);
  EXPECT_EQ(old.rope_theta, 10000);
  EXPECT_EQ(old.rms_norm_eps, 1e-6f);
  EXPECT_EQ(
      llama_of(replaced(kTinyLlama, "\"vocab_size\"", "\"head_dim\": 6, \"vocab_size\"")).head_dim,
      6);
}

// What each family reads, and what it takes for keys that are missing.
TEST(DecoderFamilies, FieldsAndDefaults) {
  const auto of_type = [](const char* type, const char* more) {
    return llama_of(fmt::format(R"({{"model_type": "{}", "hidden_size": 64, "vocab_size": 7,
        "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 32{}}})",
                                type, more));
  };
  const LlamaConfig mistral = of_type("mistral", "");
  EXPECT_EQ(mistral.num_key_value_heads, 8);
  EXPECT_EQ(mistral.max_position_embeddings, 131072);
  EXPECT_EQ(mistral.sliding_window, 4096);
  EXPECT_TRUE(mistral.has_window(0) && mistral.has_window(2));
  EXPECT_FALSE(mistral.qkv_bias || mistral.out_bias || mistral.mlp_bias);
  EXPECT_EQ(of_type("mistral", R"(, "sliding_window": null)").sliding_window, 0);
  EXPECT_EQ(of_type("mistral", R"(, "num_key_value_heads": null)").num_key_value_heads, 32);

  const LlamaConfig qwen2 = of_type("qwen2", R"(, "sliding_window": 9)");
  EXPECT_EQ(qwen2.num_key_value_heads, 32);
  EXPECT_EQ(qwen2.max_position_embeddings, 32768);
  EXPECT_EQ(qwen2.sliding_window, 0) << "without use_sliding_window";
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_FALSE(qwen2.out_bias || qwen2.mlp_bias);
  const auto windows = [&](const char* more) {
    const LlamaConfig config =
        of_type("qwen2", fmt::format(R"(, "use_sliding_window": true, {})", more).c_str());
    std::string layers;
    for (int64_t layer = 0; layer < 3; ++layer) layers += config.has_window(layer) ? 'w' : '-';
    return layers;
  };
  EXPECT_EQ(windows(R"("max_window_layers": 1)"), "-ww");
  EXPECT_EQ(windows(R"("max_window_layers": 0)"), "www");
  EXPECT_EQ(windows(R"("sliding_window": 5)"), "---") << "all below the 28th";
  EXPECT_EQ(windows(R"("max_window_layers": 0, "layer_types":
      ["sliding_attention", "full_attention", "sliding_attention"])"),
            "w-w");

  const LlamaConfig llama = of_type("llama", R"(, "attention_bias": true, "sliding_window": 9)");
  EXPECT_TRUE(llama.qkv_bias && llama.out_bias);
  EXPECT_FALSE(llama.mlp_bias);
  EXPECT_EQ(llama.sliding_window, 0) << "as Transformers: no key of this family";
  EXPECT_TRUE(of_type("llama", R"(, "mlp_bias": true)").mlp_bias);
}

TEST(DecoderFamilies, WhatTheyLackIsRefused) {
  const auto error_with = [](const char* type, const char* more) {
    return llama_error(replaced(replaced(kTinyLlama, "\"llama\"", fmt::format("\"{}\"", type)),
                                "\"bos_token_id\": 1", more));
  };
  EXPECT_TRUE(mentions(error_with("qwen2", R"("attention_bias": true)"),
                       "attention_bias: models of type qwen2 have no such biases"));
  EXPECT_TRUE(
      mentions(error_with("qwen2", R"("layer_types": ["sliding_attention", "full_attention"])"),
               "layer_types: sliding_attention without a window"));
  EXPECT_TRUE(mentions(error_with("qwen2", R"("layer_types": ["full_attention"])"),
                       "layer_types: 1 entries for 2 layers"));
  EXPECT_TRUE(
      mentions(error_with("qwen2", R"("layer_types": ["full_attention", "linear_attention"])"),
               "layer_types[1]: linear_attention is not supported"));
  EXPECT_TRUE(
      mentions(error_with("mistral", R"("layer_types": ["sliding_attention", "full_attention"])"),
               "layer_types: in a model of type mistral every layer has"));
  EXPECT_TRUE(
      mentions(error_with("mistral", R"("sliding_window": 0)"), "sliding_window: 0 is out"));
}

TEST(LlamaConfigFile, RopeScalingInAllSpellings) {
  const auto with = [](const char* scaling) {
    return llama_of(replaced(kTinyLlama, "\"rope_scaling\": null", scaling));
  };
  EXPECT_EQ(with(R"("rope_scaling": {"type": "linear", "factor": 4})").rope_scaling.factor, 4);
  EXPECT_EQ(with(R"("rope_scaling": {"rope_type": "dynamic", "factor": 2.5})").rope_scaling.type,
            RopeScaling::Type::kDynamic);
  EXPECT_EQ(with(R"("rope_scaling": {"rope_type": "default"})").rope_scaling.type,
            RopeScaling::Type::kNone);
  const LlamaConfig llama3 =
      with(R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 32})");
  EXPECT_EQ(llama3.rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(llama3.rope_scaling.high_freq_factor, 4);
  EXPECT_EQ(llama3.rope_scaling.original_max_position_embeddings, 32);
  const LlamaConfig newer =
      with(R"("rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 700})");
  EXPECT_EQ(newer.rope_theta, 700);
  EXPECT_EQ(with(R"("rope_parameters": {"rope_theta": 600})").rope_theta, 600);
  EXPECT_EQ(newer.rope_scaling.factor, 2);
  EXPECT_EQ(with(R"("rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters":
                    {"rope_type": "linear", "factor": 2, "rope_theta": 5000})")
                .rope_scaling.factor,
            2);
}

TEST(LlamaConfigFile, ContradictionsNameFileKeyAndValue) {
  const auto changed = [](const char* from, const char* to) {
    return llama_error(replaced(kTinyLlama, from, to));
  };
  EXPECT_TRUE(mentions(changed("\"hidden_size\": 16", "\"hidden_size\": \"16\""),
                       "config.json: hidden_size: expected an integer, found a string"));
  EXPECT_TRUE(
      mentions(changed("\"model_type\": \"llama\"", "\"model_type\": \"mixtral\""),
               "model_type: mixtral is not supported; decoders are read of the types llama, "
               "mistral and qwen2"));
  EXPECT_TRUE(mentions(changed("\"silu\"", "\"relu\""), "hidden_act: relu"));
  EXPECT_TRUE(mentions(changed("\"hidden_size\": 16", "\"hidden_size\": 18"), "18 is no multiple"));
  EXPECT_TRUE(mentions(changed("value_heads\": 2", "value_heads\": 3"), "3 does not divide"));
  EXPECT_TRUE(mentions(changed("\"vocab_size\": 11", "\"vocab_size\": 0"), "vocab_size: 0"));
  EXPECT_TRUE(
      mentions(changed("\"vocab_size\": 11", "\"vocab_sizes\": 11"), "\"vocab_size\" is missing"));
  EXPECT_TRUE(mentions(changed("5000.0", "-1"), "rope_theta: -1"));
  EXPECT_TRUE(mentions(changed("\"hidden_size\": 16", "\"hidden_size\": 12"), "even"));
  EXPECT_TRUE(mentions(changed("\"bos_token_id\": 1", "\"quantization_config\": {}"), "quantised"));
  const auto scaling = [&](const char* text) { return changed("\"rope_scaling\": null", text); };
  EXPECT_TRUE(mentions(scaling(R"("rope_scaling": {"type": "yarn", "factor": 2})"), "yarn"));
  EXPECT_TRUE(mentions(scaling(R"("rope_parameters": {"partial_rotary_factor": 0.5})"),
                       "partial_rotary_factor: heads that are rotated in part"));
  EXPECT_TRUE(mentions(scaling(R"("rope_parameters": {"full_attention": {"rope_theta": 600}})"),
                       "layers of the kind full_attention"));
  for (const char* other : {R"({"rope_type": "default"})", R"({"type": "linear", "factor": 3})"})
    EXPECT_TRUE(mentions(scaling(fmt::format(R"("rope_scaling": {{"type": "linear", "factor": 2}},
                                             "rope_parameters": {})",
                                             other)
                                     .c_str()),
                         "rope_scaling: it says otherwise than rope_parameters"));
  EXPECT_TRUE(mentions(scaling(R"("quantization": {"bits": 4})"), "quantised weights"));
  EXPECT_TRUE(mentions(scaling(R"("rope_scaling": {"type": "linear"})"), "\"factor\" is missing"));
  EXPECT_TRUE(mentions(scaling(R"("rope_scaling": {"factor": 2})"), "\"type\" is missing"));
  EXPECT_TRUE(mentions(scaling(R"("rope_scaling": {"type": "linear", "factor": 0.5})"),
                       "rope_scaling.factor: 0.5 is below 1"));
  EXPECT_TRUE(mentions(
      scaling(R"("rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 2})"),
      "contradict"));
  for (const std::string& error :
       {changed("\"silu\"", "\"relu\""), changed("24", "2.5"), changed("{", "[")})
    EXPECT_TRUE(error.starts_with("78: ")) << error;
  EXPECT_TRUE(mentions(error_of([] { read_llama_config("none"); }), "66: none: no such directory"));
}

// Values that would fill the memory, wrap around or never end are refused as they are read.
const std::vector<const char*> kNoSizes = {
    "0",    "-1",  "1000000000", "1073741824", "9223372036854775807", "9223372036854775808",
    "1e30", "2.5", "\"7\"",      "[7]",        "-9223372036854775808"};

TEST(LlamaConfigFile, ImpossibleSizesAreOneErrorEach) {
  for (const std::string key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                                "num_attention_heads", "num_key_value_heads", "vocab_size"})
    for (const std::string value : kNoSizes) {
      const std::string error = llama_error(std::regex_replace(
          kTinyLlama, std::regex("\"" + key + "\": \\d+"), "\"" + key + "\": " + value));
      EXPECT_TRUE(mentions(error, "78: ")) << key << " " << value;
      EXPECT_TRUE(mentions(error, "config.json: " + key + ": ")) << key << " " << value;
    }
  for (const char* real : {"-1", "0", "1e13", "\"1\""}) {
    EXPECT_TRUE(mentions(llama_error(replaced(kTinyLlama, "5000.0", real)), "rope_theta: "));
    EXPECT_TRUE(mentions(llama_error(replaced(kTinyLlama, "1e-05", real)), "rms_norm_eps: "));
  }
  EXPECT_TRUE(mentions(llama_error(replaced(kTinyLlama, "\"num_attention_heads\": 4",
                                            "\"num_attention_heads\": 60000, \"head_dim\": 60000")),
                       "60000 heads of 60000 are out of range"));
}

TEST(VisionConfigFile, ImpossibleSizesAreOneErrorEach) {
  for (const std::string key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                                "num_attention_heads", "image_size", "patch_size"})
    for (const std::string value : kNoSizes) {
      const std::string error = clip_error(std::regex_replace(
          kTinyClip, std::regex("\"" + key + "\": \\d+"), "\"" + key + "\": " + value));
      EXPECT_TRUE(mentions(error, "78: ")) << key << " " << value;
      EXPECT_TRUE(mentions(error, "config.json: " + key + ": ")) << key << " " << value;
    }
}

TEST(VisionConfigFile, AVisionModelAndAWholeModel) {
  const VisionConfig config = clip_of(kTinyClip);
  EXPECT_EQ(config.hidden_size, 16);
  EXPECT_EQ(config.hidden_act, Activation::kGelu);
  EXPECT_EQ(config.layer_norm_eps, 1e-6f);
  EXPECT_EQ(config.grid(), 2);
  const VisionConfig whole =
      clip_of(R"({"model_type": "clip", "hidden_size": 5, "text_config": {"hidden_size": 7},
                  "vision_config": {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14,
                                    "intermediate_size": 4096, "num_hidden_layers": 24}})");
  EXPECT_EQ(whole.hidden_size, 1024);
  EXPECT_EQ(whole.image_size, 224);
  EXPECT_EQ(whole.hidden_act, Activation::kQuickGelu);
  EXPECT_EQ(whole.layer_norm_eps, 1e-5f);
}

TEST(VisionConfigFile, SiglipAloneAndInAWholeModel) {
  const VisionConfig config = clip_of(R"({"model_type": "siglip_vision_model", "hidden_size": 1152,
      "num_attention_heads": 16, "image_size": 384, "patch_size": 14})");
  EXPECT_EQ(config.family, VisionFamily::kSiglip);
  EXPECT_EQ(config.hidden_act, Activation::kGeluTanh);
  EXPECT_EQ(config.layer_norm_eps, 1e-6f);
  EXPECT_EQ(config.grid(), 27);
  const VisionConfig whole = clip_of(R"({"model_type": "siglip", "text_config": {"hidden_size": 7},
      "vision_config": {"model_type": "siglip_vision_model", "hidden_act": "gelu"}})");
  EXPECT_EQ(whole.family, VisionFamily::kSiglip);
  EXPECT_EQ(whole.hidden_act, Activation::kGelu);
  EXPECT_EQ(whole.grid(), 14);
  EXPECT_TRUE(mentions(clip_error(R"({"model_type": "siglip_vision_model", "image_size": 15})"),
                       "image_size 15 is below patch_size 16"));
}

TEST(VisionConfigFile, QwenVlInItsOwnWordsAndInThoseOfAClip) {
  const VisionConfig own = clip_of(kTinyQwenVl);
  EXPECT_EQ(own.family, VisionFamily::kQwenVl);
  EXPECT_EQ(own.intermediate_size, 25);
  EXPECT_EQ(own.num_hidden_layers, 2);
  EXPECT_EQ(own.grid(), 16);
  EXPECT_EQ(own.pool_queries, 256);
  EXPECT_EQ(own.feature_width(), 128);
  const VisionConfig real = clip_of(R"({"model_type": "qwen", "visual": {}})");
  EXPECT_EQ(real.hidden_size, 1664);
  EXPECT_EQ(real.intermediate_size, 8192);
  EXPECT_EQ(real.num_hidden_layers, 48);
  EXPECT_EQ(real.num_attention_heads, 16);
  EXPECT_EQ(real.image_size, 16 * 14);
  EXPECT_EQ(real.feature_width(), 4096);
  TemporaryDirectory directory;  // as DeepSpeed-VisualChat's
  directory.put("config.json", replaced(kTinyClip, "gelu", "quick_gelu"));
  const auto read = [&](std::vector<int64_t> query) {
    int64_t elements = 1;
    for (const int64_t size : query) elements *= size;
    write_safetensors(
        directory / "model.safetensors",
        {to_write("attn_pool.query", query, std::vector<float>(static_cast<size_t>(elements))),
         to_write("positional_embedding", {9, 16}, std::vector<float>(9 * 16))});
    return read_vision_config(directory.path());
  };
  const VisionConfig clip = read({4, 256});
  EXPECT_EQ(clip.family, VisionFamily::kQwenVl);
  EXPECT_EQ(clip.hidden_act, Activation::kGelu);
  EXPECT_EQ(clip.layer_norm_eps, 1e-6f);
  EXPECT_EQ(clip.intermediate_size, 24);
  EXPECT_EQ(clip.grid(), 3);
  EXPECT_EQ(clip.pool_queries, 4);
  EXPECT_EQ(clip.feature_width(), 256);
  EXPECT_TRUE(mentions(error_of([&] { read({5, 256}); }), "attn_pool.query is 5 x 256, expected"));
  EXPECT_TRUE(mentions(error_of([&] { read({4, 130}); }), "130 wide, no multiple of 128"));
  EXPECT_TRUE(mentions(clip_error(R"({"model_type": "qwen"})"), "\"visual\" is missing"));
}

TEST(VisionConfigFile, ContradictionsNameFileKeyAndValue) {
  const auto changed = [](const char* from, const char* to) {
    return clip_error(replaced(kTinyClip, from, to));
  };
  EXPECT_TRUE(mentions(changed("clip_vision_model", "siglip2"), "78: "));
  EXPECT_TRUE(mentions(changed("clip_vision_model", "siglip2"),
                       "siglip2 is not supported; vision encoders that are: CLIP (clip or "
                       "clip_vision_model), SigLIP (siglip or siglip_vision_model), Qwen-VL (qwen "
                       "or qwen_vl_visual)"));
  EXPECT_TRUE(mentions(changed("\"patch_size\": 4", "\"patch_size\": 3"),
                       "image_size 8 is no multiple of patch_size 3"));
  EXPECT_TRUE(mentions(changed("\"num_attention_heads\": 2", "\"num_attention_heads\": 5"),
                       "hidden_size 16 is no multiple of num_attention_heads 5"));
  EXPECT_TRUE(mentions(changed("\"gelu\"", "\"relu\""), "hidden_act: relu is not supported"));
  EXPECT_TRUE(mentions(changed("channels\": 3", "channels\": 1"), "num_channels"));
  EXPECT_TRUE(mentions(clip_error(R"({"model_type": "clip"})"), "\"vision_config\" is missing"));
}

}  // namespace
}  // namespace facet
