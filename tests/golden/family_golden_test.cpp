// Decoders of the families beside LLaMA-2 against Transformers, from the config.json that
// Transformers writes for them: text only, logits, loss, every gradient, greedy decoding.
#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/hugging_face.h"
#include "kernels/cpu/backend.h"
#include "model/vlm.h"
#include "tests/golden/golden_file.h"
#include "tests/io/temporary_directory.h"

namespace facet::golden {
namespace {

constexpr double kTolerance = 2e-5;  // of a tensor's norm

struct Model {
  Model(const GoldenFile& file, const std::string& name)
      : description(file.description(name)), config(config_of(description)) {
    TemporaryDirectory directory;
    directory.put("config.json", std::string(description.at("config_json").as_string()));
    config.lm = read_llama_config(directory.path());
    vlm.emplace(config, table);
    set_parameters(table, gradient_names(description));
    batch = batch_of(file, name, description);
  }

  JsonValue description;
  VlmConfig config;
  ParamTable table;
  std::optional<VisionLanguageModel> vlm;
  MicroBatch batch;
  CpuBackend ops{2};
  UnitHooks hooks;
  Arena arena{"test", int64_t{1} << 28};
  Context ctx{ops, arena, hooks};
};

class GoldenFamily : public testing::TestWithParam<const char*> {
 protected:
  GoldenFile file{"families.safetensors"};
};

INSTANTIATE_TEST_SUITE_P(Transformers, GoldenFamily,
                         testing::Values("mistral", "qwen2", "qwen2_upper_window", "llama3",
                                         "llama_biases"),
                         [](const auto& info) { return info.param; });

TEST_P(GoldenFamily, LogitsLossAndEveryGradient) {
  Model m(file, GetParam());
  LossSums sums;
  m.vlm->forward_backward(m.ctx, m.batch, 1, sums);
  const auto expected = static_cast<double>(file.floats(GetParam(), "loss_sum")[0]);
  EXPECT_NEAR(sums.total_loss(), expected, kTolerance * expected);
  expect_gradients(file, GetParam(), gradients_of(m.table), kTolerance);
  std::vector<float> logits;
  m.vlm->all_logits(m.ctx, m.batch, logits);
  const double error = relative_error(logits, file.floats(GetParam(), "logits"));
  EXPECT_LE(error, kTolerance);
  fmt::print("{}: logits error {:.1e}\n", GetParam(), error);
}

// The second sample is the prompt.
TEST_P(GoldenFamily, GreedyTokensOfDecodingWithTheCache) {
  Model m(file, GetParam());
  const std::vector<int32_t> expected = file.ints(GetParam(), "greedy");
  const auto from = m.batch.sample_begin[1], to = m.batch.sample_begin[2];
  MicroBatch prompt = m.batch;
  prompt.token_ids.assign(m.batch.token_ids.begin() + from, m.batch.token_ids.begin() + to);
  prompt.labels.assign(prompt.token_ids.size(), kIgnoredLabel);
  prompt.sample_begin = {0, to - from};
  for (std::vector<int32_t>* one : {&prompt.images_per_sample, &prompt.dataset_of_sample})
    one->assign(1, 0);
  prompt.sample_ids.assign(1, 0);
  VisionLanguageModel::Decoding decoding(*m.vlm, m.ctx,
                                         to - from + static_cast<int64_t>(expected.size()));
  std::vector<int32_t> tokens;
  const std::vector<float>* logits = &decoding.append(prompt);
  while (tokens.size() < expected.size()) {
    tokens.push_back(
        static_cast<int32_t>(std::max_element(logits->begin(), logits->end()) - logits->begin()));
    logits = &decoding.append_token(tokens.back());
  }
  EXPECT_EQ(tokens, expected);
}

}  // namespace
}  // namespace facet::golden
