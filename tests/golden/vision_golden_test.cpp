// CLIP and SigLIP against transformers' CLIPVisionModel and SiglipVisionModel, Qwen-VL's encoder
// and the projections against the original's.
#include <gtest/gtest.h>

#include "kernels/cpu/backend.h"
#include "model/projection.h"
#include "model/vision_encoder.h"
#include "tests/golden/golden_file.h"
#include "tests/golden/hash_weights.h"

namespace facet::golden {
namespace {

constexpr double kTolerance = 2e-5;  // of a tensor's norm

struct Machine {
  CpuBackend ops{2};
  UnitHooks hooks;
  Arena arena{"test", 512 << 20};
  Context ctx{ops, arena, hooks};

  Tensor tensor(std::vector<float> values, int64_t cols) {
    const Tensor t = arena.tensor({static_cast<int64_t>(values.size()) / cols, cols});
    std::copy(values.begin(), values.end(), t.f32());
    return t;
  }
};

std::vector<float> floats_of(const Tensor& t) { return {t.f32(), t.f32() + t.numel()}; }

void expect_encoders(const std::string& golden, const std::string& prefix) {
  const GoldenFile file(golden);
  for (const std::string& name : file.cases_with(prefix)) {
    const VlmConfig config = config_of(file.description(name));
    ParamTable table;
    VisionEncoder vision(table, config);
    set_parameters(table, gradient_names(file.description(name)));
    Machine machine;
    const int64_t size = config.image_size;
    const Tensor pixels =
        machine.tensor(uniform(name + " pixels", 2 * 3 * size * size, 0, 1.7), size)
            .view({2, 3, size, size});
    const Tensor features = vision.forward(machine.ctx, pixels, Keep::kForBackward);
    EXPECT_LE(relative_error(floats_of(features), file.floats(name, "features")), kTolerance)
        << name;
    vision.backward(machine.ctx,
                    machine.tensor(uniform(name + " G", features.numel()), features.cols()));
    expect_gradients(file, name, gradients_of(table), kTolerance);
  }
}

TEST(GoldenVision, ClipMatchesTransformers) { expect_encoders("clip_vision.safetensors", "clip_"); }
TEST(GoldenVision, SiglipMatchesTransformers) {
  expect_encoders("siglip_vision.safetensors", "siglip");
}
TEST(GoldenVision, QwenVlMatchesTheOriginal) {
  expect_encoders("qwen_vl_vision.safetensors", "qwen_vl");
}

// The original hands the class token to every projection; ours drops it before the perceiver.
std::vector<float> without_class_rows(const std::vector<float>& x, int64_t tokens, int64_t width) {
  std::vector<float> result;
  for (size_t i = 0; i < x.size(); ++i)
    if (static_cast<int64_t>(i) / width % tokens != 0) result.push_back(x[i]);
  return result;
}

std::vector<float> with_zero_class_rows(const std::vector<float>& x, int64_t tokens,
                                        int64_t width) {
  std::vector<float> result;
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % static_cast<size_t>((tokens - 1) * width) == 0)
      result.insert(result.end(), static_cast<size_t>(width), 0.0f);
    result.push_back(x[i]);
  }
  return result;
}

TEST(GoldenVision, ProjectionsMatchTheOriginal) {
  const GoldenFile file("projection.safetensors");
  for (const std::string& name : file.cases_with("projection_")) {
    VlmConfig config = config_of(file.description(name));
    config.compat_visualchat = true;  // pos_embed's gradient is compared too
    const bool drop = config.projection == ProjectionKind::kPerceiver;
    const int64_t width = config.vision.hidden_size;
    const int64_t tokens = 1 + (config.image_size / 4) * (config.image_size / 4);
    ParamTable table;
    const std::unique_ptr<Projection> projection = Projection::make(table, config);
    std::vector<std::string> trained = gradient_names(file.description(name));
    std::erase(trained, "features");
    set_parameters(table, trained);
    Machine machine;
    std::vector<float> values = uniform(name + " features", 2 * tokens * width);
    if (drop) values = without_class_rows(values, tokens, width);
    const Tensor features = machine.tensor(values, width);
    const Tensor out = projection->forward(machine.ctx, features, Keep::kForBackward);
    if (file.has(name, "tokens")) {
      EXPECT_LE(relative_error(floats_of(out), file.floats(name, "tokens")), kTolerance) << name;
    } else {
      const std::vector<double> d = digest("tokens", floats_of(out));
      EXPECT_LE(relative_error({d.begin(), d.end()}, file.floats(name, "tokens_digest")),
                kTolerance)
          << name;
    }
    const Tensor dfeatures = machine.tensor(values, width);
    projection->backward(machine.ctx, dfeatures,
                         machine.tensor(uniform(name + " G", out.numel()), out.cols()));
    Gradients gradients = gradients_of(table);
    gradients["features"] =
        drop ? with_zero_class_rows(floats_of(dfeatures), tokens, width) : floats_of(dfeatures);
    expect_gradients(file, name, gradients, kTolerance);
  }
}

TEST(GoldenVision, PerceiverPositionsStartAsTheOriginals) {
  const GoldenFile file("projection.safetensors");
  const std::string name = "projection_perceiver";
  ParamTable table;
  const std::unique_ptr<Projection> projection =
      Projection::make(table, config_of(file.description(name)));
  table.allocate(1);
  Param& position = *table.find("projection.pos_embed");
  ParamTable::draw(position, 1);
  EXPECT_LE(relative_error(floats_of(position.value), file.floats(name, "initial_pos_embed")),
            1e-6);
}

}  // namespace
}  // namespace facet::golden
