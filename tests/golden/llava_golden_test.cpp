// LLaVA 1.5's model against Transformers' LlavaForConditionalGeneration, from the config.json that
// Transformers writes for it: loss, logits, every gradient.
#include <gtest/gtest.h>

#include "checkpoint/hugging_face.h"
#include "io/llava_directory.h"
#include "kernels/cpu/backend.h"
#include "model/vlm.h"
#include "tests/golden/golden_file.h"
#include "tests/io/temporary_directory.h"

namespace facet::golden {
namespace {

constexpr double kLossTolerance = 1e-5, kTolerance = 2e-5;  // of a tensor's norm

VlmConfig config_from_files(const JsonValue& description) {
  TemporaryDirectory directory;
  directory.put("config.json", std::string(description.at("config_json").as_string()));
  const LlavaChoices choices = read_llava_choices(directory.path());
  VlmConfig config = config_of(description);
  EXPECT_EQ(choices.vision_feature_layer, config.vision_feature_layer);
  EXPECT_EQ(choices.drop_class_token, config.drop_class_token);
  config.lm = read_llama_config(directory.path());
  config.vision = read_vision_config(directory.path());
  return config;
}

class GoldenLlava : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Transformers, GoldenLlava, testing::Values("llava", "llava_all_tokens"),
                         [](const auto& info) { return info.param; });

TEST_P(GoldenLlava, LogitsLossAndEveryGradient) {
  const GoldenFile file{"llava.safetensors"};
  const JsonValue description = file.description(GetParam());
  const VlmConfig config = config_from_files(description);
  ParamTable table;
  VisionLanguageModel model(config, table);
  set_parameters(table, gradient_names(description));
  const MicroBatch batch = batch_of(file, GetParam(), description);
  CpuBackend ops{2};
  UnitHooks hooks;
  Arena arena{"test", int64_t{1} << 28};
  Context ctx{ops, arena, hooks};

  LossSums sums;
  model.forward_backward(ctx, batch, 1, sums);
  const auto expected = static_cast<double>(file.floats(GetParam(), "loss_sum")[0]);
  EXPECT_NEAR(sums.total_loss(), expected, kLossTolerance * expected);
  expect_gradients(file, GetParam(), gradients_of(table), kTolerance);
  std::vector<float> logits;
  model.all_logits(ctx, batch, logits);
  const double error = relative_error(logits, file.floats(GetParam(), "logits"));
  EXPECT_LE(error, kTolerance);
  fmt::print("{}: loss error {:.1e}, logits error {:.1e}\n", GetParam(),
             sums.total_loss() / expected - 1, error);
}

}  // namespace
}  // namespace facet::golden
