// What loading takes of a rank's memory at stage 3. Run with 1, 2, 3 and 4 ranks
// (scripts/run_tests.sh).
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "checkpoint/hugging_face.h"
#include "kernels/cpu/backend.h"
#include "tests/checkpoint/checkpoint_rig.h"
#include "tests/checkpoint/tiny_directories.h"
#include "tests/zero/resident.h"
#include "zero/engine.h"

#ifndef FACET_CHECKED  // the sanitizer's own memory would be counted
namespace facet {
namespace {

// A decoder of 12 blocks of 2.2 M elements each; everything else is small.
const char* const kLlama = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 448, "intermediate_size": 1024, "num_hidden_layers": 12,
  "num_attention_heads": 7, "num_key_value_heads": 7, "vocab_size": 11,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "rope_theta": 5000.0,
  "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype": "float32",
  "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2})";

float stored_value(int64_t i) { return static_cast<float>(i % 1021) / 1021; }

// The decoder's file as a table declares it, made up while it is written.
void write_decoder(const ParamTable& table, const std::string& path) {
  std::vector<TensorToWrite> tensors;
  const std::string prefix = "lang_decoder.";
  for (const Param& param : table.params())
    if (param.name.starts_with(prefix))
      tensors.push_back({param.name.substr(prefix.size()), param.shape,
                         [](int64_t begin, int64_t count, float* out) {
                           for (int64_t i = 0; i < count; ++i) out[i] = stored_value(begin + i);
                         }});
  write_safetensors(path, std::move(tensors));
}

struct LargeModel {
  explicit LargeModel(const SharedDirectory& directory) : path(directory.path()) {}
  void write() {
    make_directories(path + "/models/lm");
    make_directories(path + "/clip");
    write_file(path + "/models/lm/config.json", kLlama);
    write_file(path + "/clip/config.json", kTinyClip);
    write_file(path + "/clip/preprocessor_config.json", "{\"size\": 8}");
    const VlmConfig config = read();
    ParamTable table;
    const VisionLanguageModel model(config, table);
    write_decoder(table, path + "/models/lm/model.safetensors");
    Tensors vision;
    for (const Param& param : table.params())
      if (param.name.starts_with("vis_encoder."))
        vision[param.name.substr(12)] = {
            param.shape, std::vector<float>(static_cast<size_t>(param.numel()), 0.25f)};
    write_tensors(path + "/clip/model.safetensors", vision);
  }
  VlmConfig read() const {
    VlmConfig config;
    config.lm = read_llama_config(path + "/models/lm");
    config.vision = read_vision_config(path + "/clip");
    config.image_size = config.vision.image_size;
    return config;
  }
  PretrainedSources sources() const { return {path + "/models/lm", path + "/clip", ""}; }
  std::string path;
};

int64_t largest_unit(const ParamTable& table) {
  int64_t elements = 0;
  for (const ParamUnit& unit : table.units()) {
    int64_t of_unit = 0;
    for (const Param* param : unit.params) of_unit += param->numel();
    elements = std::max(elements, of_unit);
  }
  return elements;
}

// From before the engine is there to when everything is loaded: the rank's share and a block at a
// time, in fp32 and with masters of what is trained.
TEST(LoadMemory, AtStage3NoRankHoldsMoreThanItsShareAndTwoBlocks) {
  Communicator world(MPI_COMM_WORLD);
  SharedDirectory directory(world);
  LargeModel large(directory);
  if (world.rank() == 0) large.write();
  world.sum(int64_t{0});  // it is written
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const VlmConfig config = large.read();
    ParamTable table;
    const VisionLanguageModel model(config, table);
    CpuBackend ops(1);
    EngineOptions options;
    options.zero_stage = 3;
    options.compute_dtype = dtype;
    resident::forget_peak();
    const double base = resident::mib("VmRSS");
    Engine::lay_out(table, world.size(), options);
    Engine engine(table, make_param_groups(table, GroupOptions{}), world, ops, options);
    load_pretrained(table, config, large.sources(), 1, engine.filler());
    const double peak = resident::mib("VmHWM") - base;

    const auto elements = static_cast<double>(table.trained_elements() + table.frozen_elements());
    const double share = elements * static_cast<double>(size_of(dtype)) / world.size() / (1 << 20);
    const double block = 4.0 * static_cast<double>(largest_unit(table)) / (1 << 20);
    const std::string figures =
        fmt::format("MiB: peak {:.1f}, share {:.1f}, block {:.1f}", peak, share, block);
    EXPECT_LE(peak, share + 2 * block) << figures;
    EXPECT_GE(peak, share) << figures;  // what was loaded shows
    // The values are there all the same.
    engine.read_on_rank_0([&](const OpenUnit& open) {
      const Param& param = *table.find("lang_decoder.model.layers.11.mlp.down_proj.weight");
      open(param.unit);
      for (int64_t i = 0; i < param.numel(); i += 4099)
        ASSERT_NEAR(param.value.f32()[i], stored_value(i), 0.004) << i;
    });
  }
}

}  // namespace
}  // namespace facet
#endif
