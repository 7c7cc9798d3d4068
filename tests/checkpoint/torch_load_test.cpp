// Models whose weights lie in files of torch.save().
#include <fmt/format.h>
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

// Of one tensor of 8-bit floats, all of them 1.
std::string float8_file(const std::string& name, int64_t count, bool torch) {
  const std::string values(static_cast<size_t>(count), '\x38');
  if (torch)
    return torch_file(
        pickle::dictionary(pickle::text(name) +
                           pickle::untyped_tensor("0", count, "float8_e4m3fn", 0, {count}, {1})),
        {values});
  const std::string header = fmt::format(
      R"({{"{}":{{"dtype":"F8_E4M3","shape":[{}],"data_offsets":[0,{}]}}}})", name, count, count);
  return bytes_of(static_cast<uint64_t>(header.size())) + header + values;
}

// It is an error where a weight is read from it, by its name and type, and none where nobody asks
// for it; in a safetensors file too.
TEST(LoadTorch, Float8IsRefusedByNameAndOnlyAsAWeight) {
  for (const bool torch : {false, true}) {
    const std::string end = torch ? ".bin" : ".safetensors",
                      index = torch ? "pytorch_model.bin" : "model.safetensors";
    for (const std::string name : {"model.norm.weight", "model.norm.weight_scale"}) {
      Sources sources;
      Tensors others = sources.decoder;
      const bool is_weight = others.erase(name) == 1;
      const int64_t count = sources.decoder.at("model.norm.weight").first[0];
      std::string map = fmt::format(R"("{}": "b{}")", name, end);
      std::vector<TensorForTorch> list;
      add_tensors(list, "", others);
      for (const TensorForTorch& tensor : list)
        map += fmt::format(R"(, "{}": "a{}")", tensor.name, end);
      fs::remove(sources.directory / "models/lm/model.safetensors");
      write_tensors(sources.directory / "models/lm/a.safetensors", others);
      if (torch) sources.directory.put("models/lm/a.bin", torch_file_of(list));
      sources.directory.put("models/lm/b" + end, float8_file(name, count, torch));
      sources.directory.put("models/lm/" + index + ".index.json",
                            fmt::format(R"({{"weight_map": {{{}}}}})", map));
      const std::string error = sources.load_error();
      if (is_weight)
        EXPECT_TRUE(mentions(error, "wrong type: model.norm.weight is F8_E4M3 in ")) << error;
      else
        EXPECT_EQ(error, "");
    }
  }
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
