// Directories of whole LLaVA models, and mm_projector.bin.
#include "io/llava_directory.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/hugging_face.h"
#include "io/json.h"
#include "tests/checkpoint/tiny_model.h"
#include "tests/io/torch_writer.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

// As LLaVA 1.5's own, with the sizes of the tiny models.
std::string llava_config() {
  return fmt::format(R"({{"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
    "image_token_index": 9, "projector_hidden_act": "gelu", "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default", "torch_dtype": "float16", "pad_token_id": 7,
    "text_config": {}, "vision_config": {}}})",
                     kTinyLlama, kTinyClip);
}

VlmConfig mlp_config(VlmConfig config) {
  config.projection = ProjectionKind::kMlp;
  config.vision_feature_layer = -2;
  config.drop_class_token = true;
  return config;
}

// How the two generations of Transformers call the tensors of the parts.
struct Naming {
  const char *decoder, *head, *vision, *projector;
};
constexpr Naming kOld = {"language_model.model.", "language_model.lm_head.", "vision_tower.",
                         "multi_modal_projector."};
constexpr Naming kNew = {"model.language_model.", "lm_head.", "model.vision_tower.",
                         "model.multi_modal_projector."};

// A directory with the weights of a model, as `naming` has them.
struct LlavaSources {
  explicit LlavaSources(const Naming& naming, const Tensors& extra = {})
      : config(mlp_config(sources.config)), original(config) {
    original.randomize(5);
    Tensors tensors = extra;
    for (const auto& [name, tensor] : tensors_under(original.table, "lang_decoder."))
      tensors[name.starts_with("lm_head.") ? naming.head + name.substr(8)
                                           : naming.decoder + name.substr(6)] = tensor;
    for (const auto& [name, tensor] : tensors_under(original.table, "vis_encoder."))
      tensors[naming.vision + name] = tensor;
    for (const auto& [name, tensor] : tensors_under(original.table, "projection."))
      tensors[std::string(naming.projector) + (name[0] == '0' ? "linear_1" : "linear_2") +
              name.substr(1)] = tensor;
    write_tensors(directory() + "/model.safetensors", tensors);
    sources.directory.put("llava/config.json", llava_config());
    sources.directory.put("llava/preprocessor_config.json", "{\"size\": 8}");
    sources.directory.put("llava/tokenizer.model", "pieces");
  }
  std::string directory() const { return sources.directory / "llava"; }
  PretrainedSources pretrained() const { return {directory(), directory(), ""}; }
  ExportSources exported() const {
    ExportSources from{
        pretrained(), 1, directory() + "/tokenizer.model", {{"### Image:", 11}, {"<image>", 9}}};
    from.chat_template = "vicuna";
    return from;
  }

  Sources sources;
  VlmConfig config;
  Model original;
};

void expect_equal_parameters(ParamTable& actual, const ParamTable& expected) {
  for (const Param& param : expected.params()) {
    if (param.name == "lang_embed.weight") continue;
    EXPECT_EQ(values_of(*actual.find(param.name)), values_of(param)) << param.name;
  }
}

TEST(Llava, BothNamingsGiveTheModel) {
  for (const Naming& naming : {kOld, kNew}) {
    LlavaSources llava(naming, {{"image_newline", {{2}, {1, 2}}}});
    Model model(llava.config);
    const LoadReport report = load_pretrained(model.table, model.config, llava.pretrained(), 1);
    expect_equal_parameters(model.table, llava.original.table);
    EXPECT_EQ(model.values("lang_embed.weight"),
              values_of(*llava.original.table.find("lang_decoder.model.embed_tokens.weight")));
    EXPECT_TRUE(report.drawn.empty());
    EXPECT_EQ(report.projection_file, llava.directory() + "/model.safetensors");
    ASSERT_EQ(report.unused.size(), 1u);
    EXPECT_NE(report.unused[0].find("image_newline"), std::string::npos) << report.unused[0];
  }
}

TEST(Llava, TheSameTensorUnderTwoNamesIsAnError) {
  const LlavaSources llava(kOld, {{"lm_head.weight", {{1}, {1}}}});
  const std::string error = error_of([&] {
    Model model(llava.config);
    load_pretrained(model.table, model.config, llava.pretrained(), 1);
  });
  EXPECT_NE(error.find("the same tensor"), std::string::npos) << error;
}

// Members that are not in the file have the values that Transformers gives them.
TEST(Llava, SizesThatTheFileLeavesOut) {
  TemporaryDirectory directory;
  directory.put("config.json", R"({"model_type": "llava",
    "text_config": {"model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-05},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "patch_size": 14,
      "image_size": 336, "num_hidden_layers": 24, "num_attention_heads": 16,
      "intermediate_size": 4096}})");
  const LlamaConfig lm = read_llama_config(directory.path());
  EXPECT_EQ(lm.hidden_size, 4096);
  EXPECT_EQ(lm.intermediate_size, 11008);
  EXPECT_EQ(lm.num_hidden_layers, 32);
  EXPECT_EQ(lm.num_attention_heads, 32);
  EXPECT_EQ(lm.vocab_size, 32064);
  EXPECT_EQ(read_vision_config(directory.path()).grid(), 24);
  const LlavaChoices choices = read_llava_choices(directory.path());
  EXPECT_EQ(choices.vision_feature_layer, -2);
  EXPECT_TRUE(choices.drop_class_token);
  EXPECT_EQ(choices.chat_template, "");
}

TEST(Llava, OthersAreRefusedByName) {
  const struct {
    const char *from, *to, *says;
  } kCases[] = {
      {R"("model_type": "llava")", R"("model_type": "llava_next")", "llava_next"},
      {R"("model_type": "llava")", R"("model_type": "vipllava")", "vipllava"},
      {R"("vision_feature_layer": -2)", R"("vision_feature_layer": [-2, -5])", "several layers"},
      {R"("vision_feature_layer": -2)", R"("vision_feature_layer": 0)", "0 does not exist"},
      {R"("vision_feature_layer": -2)", R"("vision_feature_layer": 3)", "has 2 layers"},
      {R"("vision_feature_layer": -2)", R"("vision_feature_layer": -3)", "has 2 layers"},
      {R"("projector_hidden_act": "gelu")", R"("projector_hidden_act": "relu")", "relu"},
      {R"("pad_token_id": 7)", R"("multimodal_projector_bias": false)", "without bias"},
      {R"("pad_token_id": 7)", R"("mm_projector_type": "mlp2x_gelu")", "LLaVA's own format"},
      {R"("pad_token_id": 7)", R"("quantization_config": {"bits": 4})", "quantised"},
      {R"(strategy": "default")", R"(strategy": "cls_only")", "cls_only"},
      {R"("model_type": "llama")", R"("model_type": "mpt")", "mpt"},
  };
  for (const auto& [from, to, says] : kCases) {
    TemporaryDirectory directory;
    directory.put("config.json", replaced(llava_config(), from, to));
    const std::string error = error_of([&] { read_llama_config(directory.path()); });
    EXPECT_NE(error.find(says), std::string::npos) << to << ": " << error;
  }
}

TEST(Llava, LayersCountedFromTheFirst) {
  TemporaryDirectory directory;
  for (const auto& [number, layer] : {std::pair{1, -2}, std::pair{2, -1}}) {
    directory.put("config.json", replaced(llava_config(), R"("vision_feature_layer": -2)",
                                          fmt::format(R"("vision_feature_layer": {})", number)));
    EXPECT_EQ(read_llava_choices(directory.path()).vision_feature_layer, layer);
  }
}

// SigLIP has no class token, and its last features are normed here.
TEST(Llava, FeaturesThatAnEncoderDoesNotGive) {
  TemporaryDirectory directory;
  const auto error = [&](const char* layer, const char* strategy, VisionFamily family) {
    const std::string file = replaced(llava_config(), R"("default")", strategy);
    directory.put("config.json", replaced(file, R"(layer": -2)", layer));
    VisionConfig encoder;
    encoder.family = family;
    return error_of([&] { check_llava_features(directory.path(), encoder); });
  };
  EXPECT_NE(error(R"(layer": -2)", R"("default")", VisionFamily::kSiglip).find("has none"),
            std::string::npos);
  EXPECT_NE(error(R"(layer": 2)", R"("full")", VisionFamily::kSiglip).find("post_layernorm"),
            std::string::npos);
  EXPECT_EQ(error(R"(layer": -2)", R"("full")", VisionFamily::kSiglip), "");
  EXPECT_EQ(error(R"(layer": -1)", R"("default")", VisionFamily::kClip), "");
}

TEST(Llava, AnExportIsSuchADirectoryAndStartsAgain) {
  const LlavaSources llava(kNew);
  Model model(llava.config);
  load_and_train(model, llava.pretrained());
  const std::string out = llava.sources.directory / "out/e";
  ExportSources sources = llava.exported();
  export_to(out, model, sources, {.shard_bytes = 4096});
  EXPECT_TRUE(fs::exists(out + "/model.safetensors.index.json"));
  EXPECT_FALSE(fs::exists(out + "/lang_decoder"));
  EXPECT_TRUE(fs::exists(out + "/preprocessor_config.json"));
  EXPECT_TRUE(fs::exists(out + "/tokenizer.model"));
  const TensorDirectory tensors(out);
  EXPECT_NE(tensors.find("language_model.lm_head.weight"), nullptr);
  EXPECT_NE(tensors.find("multi_modal_projector.linear_2.bias"), nullptr);

  const JsonDocument config = JsonDocument::read_config(out + "/config.json");
  EXPECT_EQ(config.root().get_int("image_token_index", 0), 9);
  EXPECT_EQ(config.root().get_int("image_seq_length", 0), 4);
  EXPECT_EQ(config.root().get_int("pad_token_id", 0), 7) << "members of the source stay";
  EXPECT_TRUE(is_llava_directory(out));
  const LlavaChoices choices = read_llava_choices(out);
  EXPECT_EQ(choices.vision_feature_layer, -2);
  EXPECT_EQ(choices.chat_template, "vicuna");
  EXPECT_EQ(recorded_chat_template({out, out, ""}), "vicuna");

  Model again(llava.config);
  load_pretrained(again.table, again.config, {out, out, ""}, 2);
  for (const Param& param : model.table.params()) {
    const char* name = param.name == "lang_decoder.model.embed_tokens.weight" ? "lang_embed.weight"
                                                                              : param.name.c_str();
    EXPECT_EQ(values_of(*again.table.find(param.name)), model.values(name)) << param.name;
  }
}

TEST(Llava, OtherModelsAreExportedInParts) {
  const LlavaSources llava(kOld);
  const auto exported = [&](VlmConfig config, const ExportSources& sources) {
    static int number = 0;
    Model model(std::move(config));
    load_and_train(model, llava.pretrained());
    const std::string out = llava.sources.directory / fmt::format("out/{}", ++number);
    export_to(out, model, sources);
    return out;
  };
  VlmConfig mmca = llava.config;
  mmca.mmca = true;
  const std::string out = exported(mmca, llava.exported());
  EXPECT_TRUE(fs::exists(out + "/projection.safetensors"));
  EXPECT_EQ(read_llama_config(out + "/lang_decoder").hidden_size, llava.config.lm.hidden_size);
  EXPECT_EQ(read_vision_config(out + "/vis_encoder").hidden_size, llava.config.vision.hidden_size);
  ExportSources without_tokens = llava.exported();
  without_tokens.added_tokens.clear();
  EXPECT_TRUE(fs::exists(exported(llava.config, without_tokens) + "/projection.safetensors"));
}

TEST(Llava, PadsAreInTheExportedImageProcessor) {
  const LlavaSources llava(kOld);
  Model model(llava.config);
  load_and_train(model, llava.pretrained());
  ExportSources sources = llava.exported();
  sources.pads_images = true;
  const std::string out = llava.sources.directory / "out/padded";
  export_to(out, model, sources);
  const JsonDocument file = JsonDocument::read_config(out + "/preprocessor_config.json");
  EXPECT_EQ(file.root().get_string("image_processor_type", ""), "LlavaImageProcessor");
  EXPECT_TRUE(file.root().get_bool("do_pad", false));
  EXPECT_EQ(file.root().get_int("size", 0), 8);
}

// The older file of a projection alone, beside a decoder and an encoder of their own.
TEST(Llava, AProjectorFileGivesTheProjection) {
  const Sources sources;
  const VlmConfig config = mlp_config(sources.config);
  Model original(config);
  original.randomize(6);
  for (const char* prefix : {"model.mm_projector.", "mm_projector."}) {
    std::vector<TensorForTorch> tensors;
    for (const auto& [name, tensor] : tensors_under(original.table, "projection."))
      tensors.push_back({prefix + name, tensor.first, tensor.second});
    PretrainedSources from = sources.pretrained();
    from.projection_file = sources.directory.put("mm_projector.bin", torch_file_of(tensors));
    Model model(config);
    load_pretrained(model.table, model.config, from, 1);
    for (const char* name : {"projection.0.weight", "projection.2.bias"})
      EXPECT_EQ(model.values(name), values_of(*original.table.find(name))) << name;
    EXPECT_EQ(model.values("lang_embed.weight"),
              model.values("lang_decoder.model.embed_tokens.weight"));

    tensors.push_back({std::string(prefix) + "4.weight", {1}, {1}});
    sources.directory.put("mm_projector.bin", torch_file_of(tensors));
    const std::string error =
        error_of([&] { load_pretrained(model.table, model.config, from, 1); });
    EXPECT_NE(error.find("4.weight is of another projection"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace facet
