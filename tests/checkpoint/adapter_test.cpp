// Exports in each form and type, and adapters: written as PEFT reads them, read as PEFT writes
// them.
#include "checkpoint/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/half.h"
#include "checkpoint/model_choices.h"
#include "checkpoint/weight_origins.h"
#include "io/json.h"
#include "io/tensor_directory.h"
#include "kernels/cpu/backend.h"
#include "optim/param_groups.h"
#include "tests/checkpoint/tiny_model.h"
#include "zero/engine.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

const char* const kGolden = "tests/golden/adapter";  // by scripts/make_golden_adapter.py

// Two layers of each part, all linears of the decoder's second and of the vision encoder.
VlmConfig with_partial_lora(VlmConfig config) {
  config = with_lora(std::move(config));
  config.lang_lora.module_name = "layers.1.";
  return config;
}

std::vector<float> rounded(std::vector<float> values, DType type) {
  for (float& value : values)
    if (is_16_bit(type)) value = float_from_16_bits(round_to_16_bits(value, type), type);
  return values;
}

std::vector<float> read_all(const TensorDirectory& tensors, const std::string& name) {
  std::vector<float> values(static_cast<size_t>(tensors.find(name)->numel()));
  tensors.read_f32(name, 0, tensors.find(name)->numel(), values.data());
  return values;
}

// The decoder's files in 16 bits, with numbers that take all of them.
void store_decoder_as(Sources& sources, DType type) {
  std::vector<TensorToWrite> tensors;
  for (auto& [name, tensor] : sources.decoder) {
    tensor.second = rounded(tensor.second, type);
    tensors.push_back(to_write(name, tensor.first, tensor.second));
    tensors.back().type = type;
  }
  write_safetensors(sources.directory / "models/lm/model.safetensors", std::move(tensors));
}

// A run's own copy of what is frozen says nothing: it may be rounded.
void spoil_frozen(Model& model) {
  for (Param& param : model.table.params())
    if (!param.trained) std::fill_n(param.value.f32(), param.numel(), std::nanf(""));
}

TEST(ExportForms, FrozenTensorsKeepTheBitsOfTheirFiles) {
  for (const DType type : {DType::kF32, DType::kBF16, DType::kF16}) {
    SCOPED_TRACE(name_of(type));
    Sources sources;
    store_decoder_as(sources, type);
    Model model(sources.config);
    load_and_train(model, sources.pretrained());
    spoil_frozen(model);
    export_to(sources.directory / "e", model, sources.exported());
    const TensorDirectory before(sources.directory / "models/lm");
    const TensorDirectory after(sources.directory / "e/lang_decoder");
    ASSERT_EQ(before.names(), after.names());
    for (const std::string& name : before.names()) {
      EXPECT_EQ(after.find(name)->type, before.find(name)->type) << name;
      const bool trained = name == "model.embed_tokens.weight";  // lang_embed, rounded once
      EXPECT_EQ(read_all(after, name),
                trained ? rounded(model.values("lang_embed.weight"), type) : read_all(before, name))
          << name;
    }
    const JsonDocument config =
        JsonDocument::read(sources.directory / "e/lang_decoder/config.json");
    EXPECT_EQ(config.root().at("torch_dtype").as_string(),
              type == DType::kF32 ? "float32" : (type == DType::kBF16 ? "bfloat16" : "float16"));
  }
}

TEST(ExportForms, AGivenTypeIsThatOfAllTensorsRoundedOnce) {
  Sources sources;
  Model model(with_lora(sources.config));
  load_and_train(model, sources.pretrained());
  export_to(sources.directory / "whole", model, sources.exported());
  export_to(sources.directory / "half", model, sources.exported(), {.type = DType::kBF16});
  for (const char* part : {"lang_decoder/model.safetensors", "vis_encoder/model.safetensors",
                           "projection.safetensors"}) {
    const auto whole = TensorDirectory::of_file(sources.directory / "whole/" + part);
    const auto half = TensorDirectory::of_file(sources.directory / "half/" + part);
    for (const std::string& name : whole.names()) {
      EXPECT_EQ(half.find(name)->type, "BF16") << name;
      EXPECT_EQ(read_all(half, name), rounded(read_all(whole, name), DType::kBF16)) << name;
    }
  }
}

// A model with LoRA and DoRA, one from 16-bit files, one whose head is tied; whole, and the half of
// a decoder that two ranks share.
TEST(ExportForms, WhatAnExportWouldHoldIsReadWithoutOne) {
  for (const bool tied : {false, true}) {
    Sources sources(
        replaced(kTinyLlama, "\"tie_word_embeddings\": false",
                 tied ? "\"tie_word_embeddings\": true" : "\"tie_word_embeddings\": false"));
    store_decoder_as(sources, DType::kBF16);
    sources.config.lm.vocab_size = kFileRows + 3;
    VlmConfig adapted = with_lora(sources.config);
    adapted.lang_lora.dora = true;
    Model model(adapted, "vis_encoder.vision_model.pre_layrnorm.");
    load_and_train(model, sources.pretrained());
    const std::string out = sources.directory / "e";
    export_to(out, model, sources.exported());
    spoil_frozen(model);
    const WeightOrigins origins(model.table, adapted, sources.pretrained(), 1);
    const ReadParam read =
        read_as_exported(model.table, adapted, origins, read_through(nothing_to_open));
    for (const int ranks : {1, 2}) {
      VlmConfig config = sources.config;
      config.lm.group = {ranks - 1, ranks};
      Model from_export(config), directly(config);
      load_pretrained(from_export.table, config, {out + "/lang_decoder", out + "/vis_encoder", ""},
                      2);
      fill(directly.table, read);
      for (const Param& param : directly.table.params())
        EXPECT_EQ(values_of(param), from_export.values(param.name.c_str())) << param.name;
    }
  }
}

TEST(ExportForms, ShardsAreThoseOfTheirIndex) {
  Sources sources;
  Model model(sources.config);
  load_and_train(model, sources.pretrained());
  export_to(sources.directory / "one", model, sources.exported());
  export_to(sources.directory / "many", model, sources.exported(), {.shard_bytes = 4000});
  const std::string directory = sources.directory / "many/lang_decoder";
  EXPECT_FALSE(fs::exists(directory + "/model.safetensors"));
  const TensorDirectory one(sources.directory / "one/lang_decoder"), many(directory);
  ASSERT_EQ(many.names(), one.names());
  int64_t bytes = 0;
  for (const std::string& name : one.names()) {
    EXPECT_EQ(read_all(many, name), read_all(one, name)) << name;
    bytes += 4 * one.find(name)->numel();
  }
  const JsonDocument index = JsonDocument::read(directory + "/model.safetensors.index.json");
  EXPECT_EQ(index.root().at("metadata").at("total_size").as_int(), bytes);
  EXPECT_EQ(index.root().at("weight_map").size(), static_cast<int64_t>(one.names().size()));
  EXPECT_TRUE(mentions(std::string(index.root().at("weight_map").at("lm_head.weight").as_string()),
                       "model-00001-of-000"));
  // Each tensor is in the shard that is named, and a run can start from them all.
  for (const std::string& name : many.names())
    EXPECT_EQ(many.path_of(name),
              fmt::format("{}/{}", directory, index.root().at("weight_map").at(name).as_string()));
  Model again(sources.config);
  const std::string out = sources.directory / "many";
  load_pretrained(again.table, again.config, {out + "/lang_decoder", out + "/vis_encoder", ""}, 2);
  for (const char* name : {"lang_decoder.lm_head.weight", "lang_embed.weight",
                           "vis_encoder.vision_model.pre_layrnorm.weight"})
    EXPECT_EQ(again.values(name), model.values(name)) << name;
}

// What starts from an adapter is the model that it was made from, to the last bit.
TEST(ExportForms, AnAdapterAndItsBaseAreTheModel) {
  for (const bool compat : {false, true}) {
    Sources sources;
    sources.config.lm.vocab_size = kFileRows + 2;
    sources.config.compat_visualchat = compat;
    Model trained(with_partial_lora(sources.config), "vis_encoder.vision_model.pre_layrnorm.");
    load_and_train(trained, sources.pretrained());
    const std::string out = sources.directory / "e";
    export_to(out, trained, sources.exported(), {.kind = ExportKind::kAdapter});
    EXPECT_FALSE(fs::exists(out + "/lang_decoder/model.safetensors"));
    const Adapter adapter = read_adapter(out);
    EXPECT_EQ(adapter.lang->lora.rank, 3);
    EXPECT_EQ(adapter.lang->lora.alpha, 2);
    EXPECT_EQ(adapter.lang->lora.modules.size(), 7u);
    EXPECT_EQ(adapter.vision->lora.modules.size(), 12u);
    VlmConfig config = sources.config;
    config.lang_lora = adapter.lang->lora;
    config.vis_lora = adapter.vision->lora;
    Model again(config);
    PretrainedSources from = sources.pretrained();
    from.adapter = out;
    const LoadReport report = load_pretrained(again.table, config, from, 99);  // another seed
    EXPECT_TRUE(report.drawn.empty());
    EXPECT_TRUE(report.unused.empty()) << report.unused[0];
    // The norm is frozen in the second run, whose adapters must have it all the same.
    ExportSources second = sources.exported();
    second.pretrained = from;
    export_to(sources.directory / "second", again, second, {.kind = ExportKind::kAdapter});
    from.adapter = sources.directory / "second";
    Model third(config);
    load_pretrained(third.table, config, from, 98);
    const std::string table = "lang_decoder.model.embed_tokens.weight";  // read by nobody
    for (const Param& param : trained.table.params()) {
      if (compat && param.name == table) continue;
      EXPECT_EQ(again.values(param.name.c_str()), values_of(param)) << param.name;
      EXPECT_EQ(third.values(param.name.c_str()), values_of(param)) << param.name;
    }
  }
}

TEST(ExportForms, AnAdapterIsAsLargeAsWasEstimated) {
  Sources sources;
  Model model(with_lora(sources.config));
  load_and_train(model, sources.pretrained());
  const std::string out = sources.directory / "e";
  const ExportForm form{.kind = ExportKind::kAdapter};
  export_to(out, model, sources.exported(), form);
  int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(out))
    if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
  const int64_t estimated =
      estimated_export_bytes(model.table, model.config, sources.exported(), form);
  EXPECT_GE(estimated, bytes);
  EXPECT_LE(estimated, bytes + 100'000);
}

// The golden base with a vision encoder that no text asks for.
struct GoldenModel {
  Sources beside;
  VlmConfig config = beside.config;
  PretrainedSources sources = {std::string(kGolden) + "/base", beside.directory / "clip", ""};

  explicit GoldenModel(const std::string& adapter) {
    config.lm = read_llama_config(sources.lm_directory);
    sources.adapter = std::string(kGolden) + "/" + adapter;
    take_adapter();
  }
  void take_adapter() {
    const Adapter adapter = read_adapter(sources.adapter);
    config.lang_lora = adapter.lang->lora;
    config.saved_modules = adapter.lang->saved_modules;
  }
  std::unique_ptr<Model> load() const {
    auto model = std::make_unique<Model>(config);
    load_pretrained(model->table, config, sources, 1);
    return model;
  }
};

MicroBatch golden_batch(const TensorDirectory& golden, int64_t image_size) {
  MicroBatch batch;
  for (const float token : read_all(golden, "tokens_as_float"))
    batch.token_ids.push_back(static_cast<int32_t>(token));
  batch.labels = batch.token_ids;
  batch.sample_begin = {0, static_cast<int32_t>(batch.token_ids.size())};
  batch.images_per_sample = {0};
  batch.dataset_of_sample = {0};
  batch.sample_ids = {0};
  batch.image_token_id = 10;
  batch.image_size = static_cast<int32_t>(image_size);
  return batch;
}

std::vector<float> logits_of(Model& model, const TensorDirectory& golden) {
  CpuBackend ops(1);
  Arena arena("activations", 64 << 20);
  UnitHooks hooks;
  Context context{ops, arena, hooks};
  std::vector<float> logits;
  model.model->all_logits(context, golden_batch(golden, model.config.image_size), logits);
  return logits;
}

// (columns, rows) of (rows, columns).
std::vector<float> transposed(const std::vector<float>& values, int64_t columns) {
  const auto width = static_cast<size_t>(columns), rows = values.size() / width;
  std::vector<float> turned;
  for (size_t c = 0; c < width; ++c)
    for (size_t r = 0; r < rows; ++r) turned.push_back(values[r * width + c]);
  return turned;
}

double largest_difference(const std::vector<float>& one, const std::vector<float>& other) {
  EXPECT_EQ(one.size(), other.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(one.size(), other.size()); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(one[i]) - other[i]));
  return largest;
}

TEST(PeftAdapter, GivesPeftsLogits) {
  const auto golden = TensorDirectory::of_file(std::string(kGolden) + "/logits.safetensors");
  for (const char* name : {"listed", "rslora", "dora", "patterns", "saved"}) {
    SCOPED_TRACE(name);
    const std::vector<float> expected = read_all(golden, name);
    EXPECT_GT(largest_difference(read_all(golden, "base"), expected), 0.1);
    EXPECT_LT(largest_difference(logits_of(*GoldenModel(name).load(), golden), expected), 2e-5);
  }
}

double relative_difference(const std::vector<float>& one, const std::vector<float>& other) {
  const double size = largest_difference(other, std::vector<float>(other.size(), 0));
  return largest_difference(one, other) / size;
}

// Of every trained parameter of the decoder, and of the tokens' embeddings. Returns how many.
int64_t compare_gradients(const std::string& name) {
  const auto golden = TensorDirectory::of_file(std::string(kGolden) + "/logits.safetensors");
  const GoldenModel from(name);
  ParamTable table;
  VisionLanguageModel model(from.config, table);
  table.allocate(1);
  table.allocate_gradients();
  load_pretrained(table, from.config, from.sources, 1);
  CpuBackend ops(1);
  Arena arena("activations", 64 << 20);
  UnitHooks hooks;
  Context context{ops, arena, hooks};
  const MicroBatch batch = golden_batch(golden, from.config.image_size);
  LossSums sums;
  const auto predicted = static_cast<float>(batch.token_ids.size() - 1);
  model.forward_backward(context, batch, 1 / predicted, sums);
  int64_t compared = 0;
  for (const Param& param : table.params()) {
    const bool whole = !param.saved_as.empty() && param.name != "lang_embed.weight";
    if (param.role != ParamRole::kLora && !whole) continue;
    ++compared;
    std::vector<float> grad(param.grad.f32(), param.grad.f32() + param.numel());
    if (param.shape.size() == 2 && !whole) grad = transposed(grad, param.shape[1]);
    const std::vector<float> expected = read_all(golden, name + "_grad." + adapter_key(param));
    EXPECT_LE(relative_difference(grad, expected), 1e-5) << param.name;
  }
  const Tensor embedding = table.find("lang_embed.weight")->grad;
  std::vector<float> embedded;
  for (const int32_t token : batch.token_ids) {
    const float* const row = embedding.f32() + token * embedding.cols();
    embedded.insert(embedded.end(), row, row + embedding.cols());
  }
  EXPECT_LE(relative_difference(embedded, read_all(golden, name + "_grad.embedded")), 1e-5);
  return compared;
}

// Where all linear layers have DoRA.
TEST(PeftAdapter, HasTheGradientsOfPeftsDora) {
  EXPECT_TRUE(GoldenModel("dora").config.lang_lora.dora);
  EXPECT_EQ(compare_gradients("dora"), 2 * 7 * 3);
}

TEST(PeftAdapter, HasTheGradientsOfPeftsPatterns) {
  EXPECT_EQ(compare_gradients("patterns"), 2 * 4 * 2);
}

// Of LoRA, the head, the last norm and the two of each layer.
TEST(PeftAdapter, TrainsSavedModulesAsPeft) {
  EXPECT_EQ(compare_gradients("saved"), 2 * 2 * 2 + 1 + 1 + 2 * 2);
}

// A head that is tied is no longer the embedding when PEFT has copied either of them.
TEST(PeftAdapter, ATiedHeadIsOneOfItsOwnBesideSavedModules) {
  const auto golden = TensorDirectory::of_file(std::string(kGolden) + "/logits.safetensors");
  GoldenModel from("saved");
  TemporaryDirectory base;
  const TensorDirectory tensors(from.sources.lm_directory);
  std::vector<TensorToWrite> kept;
  std::map<std::string, std::vector<float>> values;
  for (const std::string& name : tensors.names())
    if (name != "lm_head.weight")
      kept.push_back(
          to_write(name, tensors.find(name)->shape, values[name] = read_all(tensors, name)));
  write_safetensors(base / "model.safetensors", std::move(kept));
  base.put("config.json",
           replaced(read_file(from.sources.lm_directory + "/config.json", 10'000),
                    "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
  from.sources.lm_directory = base.path();
  from.config.lm.tie_word_embeddings = true;
  EXPECT_LT(largest_difference(logits_of(*from.load(), golden), read_all(golden, "saved")), 2e-5);

  // One of the two leaves the other as it is in the base model.
  const std::string adapter = from.sources.adapter;
  const auto stored = TensorDirectory::of_file(adapter + "/adapter_model.safetensors");
  for (const bool embedding : {true, false}) {
    TemporaryDirectory one;
    const std::string unsaved = embedding ? "lm_head" : "embed_tokens";
    const std::string config = read_file(adapter + "/adapter_config.json", 10'000);
    one.put("adapter_config.json", replaced(config, "\"" + unsaved + "\"", "\"none_of_it\""));
    std::vector<TensorToWrite> saved;
    for (const std::string& name : stored.names())
      if (!mentions(name, unsaved))
        saved.push_back(
            to_write(name, stored.find(name)->shape, values[name] = read_all(stored, name)));
    write_safetensors(one / "adapter_model.safetensors", std::move(saved));
    from.sources.adapter = one.path();
    from.take_adapter();
    const std::unique_ptr<Model> model = from.load();
    const std::vector<float> table = read_all(tensors, "model.embed_tokens.weight");
    const std::string prefix = "base_model.model.";
    EXPECT_EQ(model->values("lang_embed.weight"),
              embedding ? values[prefix + "model.embed_tokens.weight"] : table);
    EXPECT_EQ(model->values("lang_decoder.model.embed_tokens.weight"),
              embedding ? table : values[prefix + "lm_head.weight"]);
  }
}

TEST(PeftAdapter, FusedGivesPeftsLogits) {
  const auto golden = TensorDirectory::of_file(std::string(kGolden) + "/logits.safetensors");
  for (const char* name : {"dora", "patterns", "saved"}) {
    SCOPED_TRACE(name);
    const GoldenModel from(name);
    const std::unique_ptr<Model> model = from.load();
    const std::string out = from.beside.directory / "e";
    export_to(out, *model, {.pretrained = from.sources});
    VlmConfig config = from.config;
    config.lang_lora = {};
    config.saved_modules = {};
    Model fused(config);
    load_pretrained(fused.table, config, {out + "/lang_decoder", out + "/vis_encoder", ""}, 1);
    EXPECT_LT(largest_difference(logits_of(fused, golden), read_all(golden, name)), 2e-5);
  }
}

// Magnitudes that start fresh leave the model as it is, and are the same where they are asked for
// later, as for an export that does not train them.
TEST(FreshDora, StartsAsTheModel) {
  const auto golden = TensorDirectory::of_file(std::string(kGolden) + "/logits.safetensors");
  GoldenModel from("dora");
  from.sources.adapter = "";
  from.config.vis_lora = {.rank = 2, .alpha = 1, .module_name = "encoder.layers.", .dora = true};
  const std::unique_ptr<Model> model = from.load();
  EXPECT_LT(largest_difference(logits_of(*model, golden), read_all(golden, "base")), 5e-6);
  const WeightOrigins origins(model->table, from.config, from.sources, 1);
  int64_t magnitudes = 0;
  for (const Param& param : model->table.params()) {
    if (param.init != Init::kRowNorms) continue;
    ++magnitudes;
    std::vector<float> read(static_cast<size_t>(param.numel()));
    origins.read(param, 0, param.numel(), read.data());
    EXPECT_EQ(read, values_of(param)) << param.name;
  }
  EXPECT_EQ(magnitudes, 2 * 7 + 2 * 6);
}

// An adapter with rank-stabilised LoRA, trained further by LoRA+.
TEST(PeftAdapter, TrainsAsWithPeftsLoraPlus) {
  const auto golden = TensorDirectory::of_file(std::string(kGolden) + "/logits.safetensors");
  const GoldenModel from("rslora");
  Communicator world(MPI_COMM_SELF);
  ParamTable table;
  VisionLanguageModel model(from.config, table);
  for (const char* beside : {"lang_embed.", "projection."}) table.set_trained(beside, false);
  EngineOptions options;
  options.gradient_clipping = 0;
  Engine::lay_out(table, 1, options);
  CpuBackend ops(1);
  GroupOptions rates;
  rates.learning_rate = 2e-3;
  rates.lora_plus_ratio = 16;
  rates.weight_decay = 0.1;
  Engine engine(table, make_param_groups(table, rates), world, ops, options);
  load_pretrained(table, from.config, from.sources, 1, engine.filler());
  Arena arena("activations", 64 << 20);
  Context context{ops, arena, engine};
  const MicroBatch batch = golden_batch(golden, from.config.image_size);
  const auto predicted = static_cast<double>(batch.token_ids.size() - 1);
  for (const float expected : read_all(golden, "rslora_losses")) {
    engine.begin_step(1);
    LossSums sums;
    model.forward_backward(context, batch, static_cast<float>(1 / predicted), sums);
    engine.step(engine.reduce_gradients(), 1);
    EXPECT_NEAR(sums.total_loss() / predicted, static_cast<double>(expected), 2e-6);
  }
  std::vector<float> logits;
  model.all_logits(context, batch, logits);
  EXPECT_LT(largest_difference(logits, read_all(golden, "rslora_trained")), 2e-5);
}

// What PEFT wrote, read and exported again, has the same tensors under the same names.
TEST(PeftAdapter, ComesOutAsItWentIn) {
  for (const auto& [kind, targets, last] : {std::tuple{"listed", int64_t{2}, "v_proj"},
                                            {"rslora", 2, "model.layers.1.self_attn.o_proj"},
                                            {"dora", 7, "v_proj"},
                                            {"patterns", 4, "v_proj"},
                                            {"saved", 2, "v_proj"}}) {
    SCOPED_TRACE(kind);
    const GoldenModel golden(kind);
    const std::unique_ptr<Model> model = golden.load();
    ExportSources sources{.pretrained = golden.sources};
    const std::string out = golden.beside.directory / "e";
    export_to(out, *model, sources, {.kind = ExportKind::kAdapter});
    const auto before =
        TensorDirectory::of_file(golden.sources.adapter + "/adapter_model.safetensors");
    const auto after = TensorDirectory::of_file(out + "/lang_decoder/adapter_model.safetensors");
    ASSERT_EQ(after.names(), before.names());
    for (const std::string& name : before.names()) {
      EXPECT_EQ(after.find(name)->shape, before.find(name)->shape) << name;
      EXPECT_EQ(read_all(after, name), read_all(before, name)) << name;
    }
    const JsonDocument theirs = JsonDocument::read(golden.sources.adapter + "/adapter_config.json");
    const JsonDocument ours = JsonDocument::read(out + "/lang_decoder/adapter_config.json");
    for (const char* key : {"r", "lora_alpha"})
      EXPECT_EQ(ours.root().at(key).as_int(), theirs.root().at(key).as_int()) << key;
    for (const char* key : {"use_rslora", "use_dora"})
      EXPECT_EQ(ours.root().at(key).as_bool(), theirs.root().at(key).as_bool()) << key;
    const Adapter again = read_adapter(out);
    EXPECT_EQ(again.lang->lora.own, golden.config.lang_lora.own);
    EXPECT_EQ(again.lang->saved_modules, golden.config.saved_modules);
    EXPECT_EQ(again.other_file, "");
    ASSERT_EQ(ours.root().at("target_modules").size(), targets);
    EXPECT_EQ(ours.root().at("target_modules").at(targets - 1).as_string(), last);
    for (int64_t i = 0; i < ours.root().size(); ++i)
      EXPECT_TRUE(theirs.root().find(ours.root().member(i).first)) << ours.root().member(i).first;
  }
}

// LoRA on some layers only: last names would mean the others too. A vision encoder's would mean
// those of SigLIP's pooling head or CLIP's text model.
TEST(PeftAdapter, TargetsAreWholePathsWhereLastNamesMeanMore) {
  Sources sources;
  Model model(with_partial_lora(sources.config));
  load_and_train(model, sources.pretrained());
  const std::string out = sources.directory / "e";
  export_to(out, model, sources.exported(), {.kind = ExportKind::kAdapter});
  const JsonDocument config = JsonDocument::read(out + "/lang_decoder/adapter_config.json");
  EXPECT_EQ(config.root().at("target_modules").size(), 7);
  EXPECT_EQ(config.root().at("target_modules").at(int64_t{0}).as_string(),
            "model.layers.1.mlp.down_proj");
  const JsonDocument vision = JsonDocument::read(out + "/vis_encoder/adapter_config.json");
  EXPECT_EQ(vision.root().at("target_modules").size(), 12);
  EXPECT_EQ(vision.root().at("target_modules").at(int64_t{0}).as_string(),
            "vision_model.encoder.layers.0.mlp.fc1");
}

TEST(PeftAdapter, WhatIsNotSupportedIsRefusedByName) {
  const std::string golden = std::string(kGolden) + "/listed";
  const std::string config = read_file(golden + "/adapter_config.json", 10'000);
  const auto error_with = [&](const std::string& from, const std::string& to) {
    TemporaryDirectory directory;
    directory.put("adapter_config.json", replaced(config, from, to));
    fs::copy(golden + "/adapter_model.safetensors", directory / "adapter_model.safetensors");
    return error_of([&] { read_adapter(directory.path()); });
  };
  for (const auto& [from, to, text] :
       {std::tuple{"\"rank_pattern\": {}", "\"rank_pattern\": {\"(q|k)_proj\": 4}",
                   "the key of rank_pattern is no plain name"},
        std::tuple{"\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": \"4\"}",
                   "alpha_pattern.q_proj"},
        std::tuple{"\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 1e7}",
                   "an alpha of 10000000 is not possible"},
        std::tuple{"\"modules_to_save\": null", "\"modules_to_save\": [\"\"]",
                   "a module without a name"},
        std::tuple{"\"modules_to_save\": null",
                   "\"modules_to_save\": [\"lm_head\"], \"ensure_weight_tying\": true",
                   "whose weights stay tied"},
        std::tuple{"\"modules_to_save\": null", "\"modules_to_save\": [\"layers.1.self_attn\"]",
                   "layers.1.self_attn.q_proj has LoRA in it and is in modules_to_save"},
        std::tuple{"\"revision\": null", "\"alora_invocation_tokens\": [5]",
                   "alora_invocation_tokens is not supported"},
        std::tuple{"\"bias\": \"none\"", "\"bias\": \"all\"", "trained biases (all)"},
        std::tuple{"\"peft_type\": \"LORA\"", "\"peft_type\": \"LOHA\"", "not LOHA"},
        std::tuple{"\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"",
                   "pissa changes"},
        std::tuple{"\"r\": 3", "\"r\": 0", "a rank of 0"}}) {
    const std::string error = error_with(from, to);
    EXPECT_TRUE(error.starts_with("78: ")) << error;
    EXPECT_TRUE(mentions(error, text)) << error;
  }
  TemporaryDirectory empty, tables;
  EXPECT_TRUE(mentions(error_of([&] { read_adapter(empty.path()); }), "no adapter_config.json"));
  tables.put("adapter_config.json", config);
  write_safetensors(
      tables / "adapter_model.safetensors",
      {to_write("base_model.model.lm_head.lora_A.weight", {3, 16}, std::vector<float>(3 * 16))});
  const std::string error = error_of([&] { read_adapter(tables.path()); });
  EXPECT_TRUE(mentions(error, "LoRA on embed_tokens or lm_head is not supported")) << error;
}

// The first that fits, at the end of a path and of a name. A dot stands for any character.
TEST(PeftAdapter, PatternsGiveModulesRanksAndAlphasAsInPeft) {
  const std::string golden = std::string(kGolden) + "/listed";
  const std::string config = read_file(golden + "/adapter_config.json", 10'000);
  const auto read = [&](const std::string& ranks, const std::string& alphas) {
    TemporaryDirectory directory;
    directory.put("adapter_config.json",
                  replaced(replaced(config, "\"rank_pattern\": {}", "\"rank_pattern\": " + ranks),
                           "\"alpha_pattern\": {}", "\"alpha_pattern\": " + alphas));
    fs::copy(golden + "/adapter_model.safetensors", directory / "adapter_model.safetensors");
    return read_adapter(directory.path()).lang->lora;
  };
  using Own = LoraConfig::Own;
  const std::string q0 = "model.layers.0.self_attn.q_proj", q1 = "model.layers.1.self_attn.q_proj",
                    v0 = "model.layers.0.self_attn.v_proj", v1 = "model.layers.1.self_attn.v_proj";
  LoraConfig lora = read(R"({"_proj": 9, "layers.1.self_attn.v_proj": 4, "v_proj": 5})",
                         R"({"self_attn\\.q_proj": 7})");
  EXPECT_EQ(lora.of(q0), (Own{3, 7}));
  EXPECT_EQ(lora.of(v0), (Own{5, 2}));
  EXPECT_EQ(lora.of(v1), (Own{4, 2}));
  lora = read(R"({"q_proj": 8, "layers.1.self_attn.q_proj": 4})", "{}");
  EXPECT_EQ(lora.of(q1), (Own{8, 2}));
  EXPECT_EQ(lora.scale_of(q1), 0.25f);
  lora = read(R"({"q.proj": 8})", R"({"q\\.proj": 6, "self.attn\\.v.proj": 7})");
  EXPECT_EQ(lora.of(q1), (Own{8, 2}));
  EXPECT_EQ(lora.of(v1), (Own{3, 7}));
  lora = read("{}", "{\"" + v1 + "\": 6.5}");
  EXPECT_EQ(lora.of(v1), (Own{3, 6.5f}));
  EXPECT_EQ(lora.own.size(), 1);
  for (const auto& [ranks, alphas] :
       {std::pair{R"({"v_proj": 5})", R"({"self_attn.v_proj": 7})"},
        {R"({"^model.layers.0.self_attn.v_proj": 5})", "{}"},
        {R"({"model.layers.0.self_attn.v_proj": 5, "v_proj": 4})", "{}"}}) {
    const std::string error = error_of([&, &one = ranks, &other = alphas] { read(one, other); });
    EXPECT_TRUE(mentions(error, "versions of PEFT differ in what rank_pattern")) << error;
    EXPECT_TRUE(mentions(error, v0)) << error;
  }
}

// A configuration that says otherwise than the matrices beside it.
TEST(PeftAdapter, MagnitudesAreThereWithUseDoraAndOnlyThen) {
  const auto with = [](TemporaryDirectory& directory, const std::string& kind, const char* from,
                       const char* to) {
    const std::string golden = std::string(kGolden) + "/" + kind;
    directory.put("adapter_config.json",
                  replaced(read_file(golden + "/adapter_config.json", 10'000), from, to));
    fs::copy(golden + "/adapter_model.safetensors", directory / "adapter_model.safetensors");
  };
  TemporaryDirectory unsaid, missing;
  with(unsaid, "dora", "\"use_dora\": true", "\"use_dora\": false");
  EXPECT_TRUE(mentions(error_of([&] { read_adapter(unsaid.path()); }),
                       "lora_magnitude_vector is no matrix of LoRA on a linear layer"));
  with(missing, "listed", "\"use_dora\": false", "\"use_dora\": true");
  GoldenModel golden("listed");
  golden.sources.adapter = missing.path();
  golden.config.lang_lora = read_adapter(missing.path()).lang->lora;
  const std::string error = error_of([&] { static_cast<void>(golden.load()); });
  EXPECT_TRUE(mentions(error,
                       "missing: base_model.model.model.layers.0.self_attn.q_proj."
                       "lora_magnitude_vector (16)"))
      << error;
}

TEST(PeftAdapter, OfAnotherModelIsOneError) {
  GoldenModel golden("listed");
  golden.config.lang_lora.rank = 4;
  const std::string shape = error_of([&] { static_cast<void>(golden.load()); });
  EXPECT_TRUE(mentions(shape, "lora_A.weight is (3, 16)")) << shape;
  golden.config.lang_lora.rank = 3;
  golden.config.lang_lora.modules.erase("model.layers.1.self_attn.v_proj");
  const std::string foreign = error_of([&] { static_cast<void>(golden.load()); });
  EXPECT_TRUE(mentions(foreign, "v_proj.lora_A.weight belongs to no module")) << foreign;
}

// What the configuration names must be there, and what is there must be named.
TEST(PeftAdapter, SavedModulesAreThoseOfTheConfiguration) {
  const auto error_with = [](const std::string& kind, const char* from, const char* to) {
    TemporaryDirectory directory;
    GoldenModel golden(kind);
    directory.put(
        "adapter_config.json",
        replaced(read_file(golden.sources.adapter + "/adapter_config.json", 10'000), from, to));
    fs::copy(golden.sources.adapter + "/adapter_model.safetensors",
             directory / "adapter_model.safetensors");
    golden.sources.adapter = directory.path();
    return error_of([&] {
      golden.take_adapter();
      static_cast<void>(golden.load());
    });
  };
  const std::string missing =
      error_with("listed", "\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]");
  EXPECT_TRUE(mentions(missing, "missing: base_model.model.lm_head.weight (11, 16)")) << missing;
  const std::string unnamed = error_with("saved", "\"lm_head\"", "\"score\"");
  EXPECT_TRUE(mentions(unnamed, "base_model.model.lm_head.weight belongs to no module")) << unnamed;
}

TEST(RecordedChatTemplate, IsThatOfTheExport) {
  Sources sources;
  Model model(with_lora(sources.config));
  load_and_train(model, sources.pretrained());
  ExportSources exported = sources.exported();
  exported.chat_template = "llama3";
  for (const ExportKind kind : {ExportKind::kFull, ExportKind::kAdapter}) {
    export_to(sources.directory / "out/e", model, exported, {.kind = kind});
    PretrainedSources from = sources.pretrained();
    EXPECT_EQ(recorded_chat_template(from), "");
    if (kind == ExportKind::kFull)
      from.lm_directory = sources.directory / "out/e/lang_decoder";
    else
      from.adapter = sources.directory / "out/e";
    EXPECT_EQ(recorded_chat_template(from), "llama3");
  }
}

}  // namespace
}  // namespace facet
