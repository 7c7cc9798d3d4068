// The composed model: text only against transformers' LlamaForCausalLM, --compat visualchat against
// the original's DeepSpeedViLModel, `correct` against a plain fp64 model with dense masks.
#include <gtest/gtest.h>

#include "kernels/cpu/backend.h"
#include "model/vlm.h"
#include "tests/golden/golden_file.h"

namespace facet::golden {
namespace {

constexpr double kTolerance = 2e-5;  // of a tensor's norm

struct Model {
  Model(const GoldenFile& file, const std::string& name, bool recompute)
      : description(file.description(name)), config(config_of(description)) {
    config.recompute = recompute;
    config.max_labelled_rows_per_chunk = 7;
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
  Arena arena{"test", int64_t{1} << 30};
  Context ctx{ops, arena, hooks};
};

// The gradients are those of sum(loss) * scale.
enum class Loss { kSum, kMean };

void compare(const std::string& file_name, const std::string& prefix, Loss loss) {
  const GoldenFile file(file_name);
  const std::vector<std::string> names = file.cases_with(prefix);
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    for (const bool recompute : {false, true}) {
      Model m(file, name, recompute);
      const double count = static_cast<double>(m.batch.num_labelled());
      LossSums sums;
      m.vlm->forward_backward(m.ctx, m.batch,
                              loss == Loss::kMean ? static_cast<float>(1 / count) : 1.0f, sums);
      EXPECT_EQ(sums.total_labelled(), m.batch.num_labelled()) << name;
      const double expected = loss == Loss::kMean
                                  ? static_cast<double>(file.floats(name, "loss_mean")[0]) * count
                                  : static_cast<double>(file.floats(name, "loss_sum")[0]);
      EXPECT_NEAR(sums.total_loss(), expected, kTolerance * expected) << name;
      expect_gradients(file, name, gradients_of(m.table), kTolerance);
      if (recompute || !file.has(name, "logits")) continue;
      std::vector<float> logits;
      m.vlm->all_logits(m.ctx, m.batch, logits);
      const double error = relative_error(logits, file.floats(name, "logits"));
      EXPECT_LE(error, kTolerance) << name;
      fmt::print("{}: logits error {:.1e}\n", name, error);
    }
  }
}

TEST(GoldenModel, TextMatchesTransformersLlama) {
  compare("llama.safetensors", "llama", Loss::kSum);
}

TEST(GoldenModel, CompatMatchesTheOriginal) {
  compare("vlm_compat.safetensors", "compat_", Loss::kMean);
}

TEST(GoldenModel, CorrectMatchesDenseMasksInFp64) {
  compare("vlm_correct.safetensors", "correct_", Loss::kSum);
}

}  // namespace
}  // namespace facet::golden
