// Models whose weights lie in files of torch.save().
#include <gtest/gtest.h>

#include "checkpoint/hugging_face.h"
#include "tests/checkpoint/tiny_model.h"
#include "tests/io/torch_writer.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

void add_tensors(std::vector<TensorForTorch>& file, const std::string& prefix,
                 const Tensors& tensors) {
  for (const auto& [name, tensor] : tensors)
    file.push_back({prefix + name, tensor.first, tensor.second});
}

std::string as_torch_file(const Tensors& tensors) {
  std::vector<TensorForTorch> file;
  add_tensors(file, "", tensors);
  return torch_file_of(file);
}

void expect_equal(ParamTable& got, ParamTable& expected) {
  for (const Param& param : expected.params())
    EXPECT_EQ(values_of(*got.find(param.name)), values_of(param)) << param.name;
}

TEST(LoadTorch, EveryParameterIsThatOfTheSafetensors) {
  Sources sources;
  sources.config.lm.vocab_size = kFileRows + 2;
  Model expected(with_lora(sources.config)), model(with_lora(sources.config));
  load_pretrained(expected.table, expected.config, sources.pretrained(), 1);
  for (const auto& [part, tensors] :
       {std::pair{"models/lm", &sources.decoder}, std::pair{"clip", &sources.vision}}) {
    fs::remove(sources.directory / part + "/model.safetensors");
    sources.directory.put(std::string(part) + "/pytorch_model.bin", as_torch_file(*tensors));
  }
  const LoadReport report = load_pretrained(model.table, model.config, sources.pretrained(), 1);
  expect_equal(model.table, expected.table);
  EXPECT_TRUE(mentions(report.read_from, "models/lm/pytorch_model.bin; vis_encoder from "));
}

TEST(LoadTorch, TheReportSaysWhichOfTwoWasRead) {
  Sources sources;
  sources.directory.put("models/lm/pytorch_model.bin", "not even opened");
  Model model(sources.config);
  const LoadReport report = load_pretrained(model.table, model.config, sources.pretrained(), 1);
  EXPECT_TRUE(mentions(report.read_from, "models/lm/model.safetensors ("));
  EXPECT_TRUE(mentions(report.read_from, "models/lm/pytorch_model.bin beside it is not read)"));
}

// A trained model as DeepSpeed-VisualChat saves it: all four parts in one file, LoRA merged and yet
// beside, or (ZeRO stage 3) neither LoRA nor buffers.
struct WholeModel {
  Sources sources;
  std::unique_ptr<Model> trained;
  std::vector<TensorForTorch> file;
  int64_t vocabulary = kFileRows + 2;

  explicit WholeModel(const std::string& llama = kTinyLlama) : sources(llama) {
    sources.config.lm.vocab_size = vocabulary;
    trained = std::make_unique<Model>(sources.config);
    trained->randomize(17);
    add_tensors(file, "", tensors_under(trained->table, ""));
  }
  // Of a model without weights in the directories.
  LoadReport load(Model& model) {
    sources.directory.put("epoch-3/pytorch_model.bin", torch_file_of(file));
    fs::remove(sources.directory / "models/lm/model.safetensors");
    fs::remove(sources.directory / "clip/model.safetensors");
    PretrainedSources from = sources.pretrained();
    from.projection_file = sources.directory / "epoch-3/pytorch_model.bin";
    return load_pretrained(model.table, model.config, from, 1);
  }
};

TEST(LoadTorch, AWholeModelInOneFile) {
  WholeModel whole;
  Model model(with_lora(whole.sources.config));
  const LoadReport report = whole.load(model);
  for (const Param& param : whole.trained->table.params())
    EXPECT_EQ(values_of(*model.table.find(param.name)), values_of(param)) << param.name;
  EXPECT_EQ(report.added_token_rows, 0);
  EXPECT_TRUE(report.unused.empty());
  EXPECT_TRUE(mentions(report.read_from, "epoch-3/pytorch_model.bin; vis_encoder from "));
  for (const std::string& name : report.drawn) EXPECT_TRUE(mentions(name, "lora_")) << name;
}

TEST(LoadTorch, ItsLoraMatricesAreMergedAlready) {
  WholeModel whole;
  const std::string layer = "lang_decoder.model.layers.0.self_attn.q_proj.";
  whole.file.push_back({layer + "lora_right_weight", {2, 1}, {1, 2}});
  whole.file.push_back({layer + "lora_left_weight", {1, 2}, {3, 4}});
  whole.file.push_back({"lang_decoder.model.layers.0.self_attn.rotary_emb.inv_freq", {1}, {1}});
  whole.file.push_back({"vis_encoder.vision_model.embeddings.position_ids", {1}, {0}});
  Model model(whole.sources.config);
  const LoadReport report = whole.load(model);
  expect_equal(model.table, whole.trained->table);
  ASSERT_EQ(report.unused.size(), 1u);
  EXPECT_TRUE(mentions(report.unused[0], "its 2 LoRA matrices are taken to be merged"));
}

TEST(LoadTorch, AWholeModelWithATiedHead) {
  WholeModel whole(
      replaced(kTinyLlama, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"));
  Model model(whole.sources.config);
  whole.load(model);
  expect_equal(model.table, whole.trained->table);
}

TEST(LoadTorch, AWholeModelWithoutARowForEachTokenIsAnError) {
  WholeModel whole;
  whole.sources.config.lm.vocab_size = whole.vocabulary + 1;
  const std::string error = error_of([&] {
    Model model(whole.sources.config);
    whole.load(model);
  });
  EXPECT_TRUE(mentions(error, "wrong shape: lang_embed.weight is (13, 16)")) << error;
}

TEST(LoadTorch, AWholeModelInPlaceOfTheDecoderSaysWhereItBelongs) {
  WholeModel whole;
  Model model(whole.sources.config);
  whole.load(model);
  fs::copy(whole.sources.directory / "epoch-3/pytorch_model.bin",
           whole.sources.directory / "models/lm/pytorch_model.bin");
  whole.sources.write();
  fs::remove(whole.sources.directory / "models/lm/model.safetensors");
  EXPECT_TRUE(mentions(whole.sources.load_error(), "give that file as --projection"));
}

}  // namespace
}  // namespace facet
