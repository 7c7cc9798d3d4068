#include "tests/golden/golden_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/golden/hash_weights.h"

namespace facet::golden {
namespace {

void read_vision(const JsonValue& json, VisionConfig& vision) {
  vision.hidden_size = json.at("hidden_size").as_int();
  vision.intermediate_size = json.at("intermediate_size").as_int();
  vision.num_hidden_layers = json.at("num_hidden_layers").as_int();
  vision.num_attention_heads = json.at("num_attention_heads").as_int();
  vision.image_size = json.at("image_size").as_int();
  vision.patch_size = json.at("patch_size").as_int();
  const std::string family = json.get_string("family", "clip");
  if (family == "siglip") vision.family = VisionFamily::kSiglip;
  if (family == "qwen_vl") vision.family = VisionFamily::kQwenVl;
  vision.pool_queries = json.get_int("pool_queries", 0);
  vision.pool_width = json.get_int("pool_width", 0);
  const std::string_view activation = json.at("hidden_act").as_string();
  vision.hidden_act = activation == "gelu"         ? Activation::kGelu
                      : activation == "quick_gelu" ? Activation::kQuickGelu
                                                   : Activation::kGeluTanh;
  vision.layer_norm_eps = static_cast<float>(json.at("layer_norm_eps").as_double());
}

RopeScaling read_scaling(const JsonValue& json) {
  RopeScaling scaling;
  const std::string_view type = json.at("rope_type").as_string();
  scaling.type = type == "linear"    ? RopeScaling::Type::kLinear
                 : type == "dynamic" ? RopeScaling::Type::kDynamic
                                     : RopeScaling::Type::kLlama3;
  scaling.factor = json.at("factor").as_double();
  scaling.low_freq_factor = json.get_double("low_freq_factor", 1);
  scaling.high_freq_factor = json.get_double("high_freq_factor", 4);
  scaling.original_max_position_embeddings =
      json.get_double("original_max_position_embeddings", 8192);
  return scaling;
}

void read_lm(const JsonValue& json, LlamaConfig& lm) {
  lm.hidden_size = json.at("hidden_size").as_int();
  lm.intermediate_size = json.at("intermediate_size").as_int();
  lm.num_hidden_layers = json.at("num_hidden_layers").as_int();
  lm.num_attention_heads = json.at("num_attention_heads").as_int();
  lm.num_key_value_heads = json.at("num_key_value_heads").as_int();
  lm.head_dim = lm.hidden_size / lm.num_attention_heads;
  lm.vocab_size = json.at("vocab_size").as_int();
  lm.max_position_embeddings = json.at("max_position_embeddings").as_int();
  lm.rms_norm_eps = static_cast<float>(json.at("rms_norm_eps").as_double());
  lm.rope_theta = json.at("rope_theta").as_double();
  lm.tie_word_embeddings = json.at("tie_word_embeddings").as_bool();
  if (const auto scaling = json.find("rope_scaling")) lm.rope_scaling = read_scaling(*scaling);
}

LoraConfig lora(int64_t rank, const char* module_name) {
  LoraConfig config;
  config.rank = rank;
  config.module_name = module_name;
  return config;
}

ProjectionKind kind_of(std::string_view name) {
  if (name == "vit") return ProjectionKind::kVit;
  if (name == "mlp2x_gelu") return ProjectionKind::kMlp;
  return name == "perceiver" ? ProjectionKind::kPerceiver : ProjectionKind::kBaseline;
}

}  // namespace

GoldenFile::GoldenFile(const std::string& name)
    : file_("tests/golden/" + name),
      cases_(JsonDocument::parse(file_.metadata().at("cases"), name)) {}

std::vector<std::string> GoldenFile::cases_with(const std::string& prefix) const {
  std::vector<std::string> names;
  for (int64_t i = 0; i < cases_.root().size(); ++i) {
    const std::string name(cases_.root().member(i).first);
    if (name.starts_with(prefix)) names.push_back(name);
  }
  return names;
}

bool GoldenFile::has(const std::string& name, const std::string& tensor) const {
  return file_.find(name + "/" + tensor) != nullptr;
}

std::vector<float> GoldenFile::floats(const std::string& name, const std::string& tensor) const {
  const std::string path = name + "/" + tensor;
  CHECK(file_.find(path) != nullptr, ExitCode::kBadData, "no tensor {} in {}", path, file_.path());
  std::vector<float> values(static_cast<size_t>(file_.find(path)->numel()));
  file_.read_f32(path, 0, static_cast<int64_t>(values.size()), values.data());
  return values;
}

std::vector<int32_t> GoldenFile::ints(const std::string& name, const std::string& tensor) const {
  const std::string path = name + "/" + tensor;
  CHECK(file_.find(path) != nullptr, ExitCode::kBadData, "no tensor {} in {}", path, file_.path());
  std::vector<int64_t> values(static_cast<size_t>(file_.find(path)->numel()));
  file_.read_i64(path, 0, static_cast<int64_t>(values.size()), values.data());
  return {values.begin(), values.end()};
}

VlmConfig config_of(const JsonValue& description) {
  VlmConfig config;
  read_vision(description.at("vision"), config.vision);
  read_lm(description.at("lm"), config.lm);
  config.projection = kind_of(description.at("projection").as_string());
  config.mmca = description.at("mmca").as_bool();
  config.image_size = description.at("image_size").as_int();
  config.vision_feature_layer = description.get_int("vision_feature_layer", -1);
  config.drop_class_token = description.get_bool("drop_class_token", false);
  config.compat_visualchat = description.get_bool("compat", false);
  config.lang_lora = lora(description.get_int("lang_lora", 0), "model.layers.");
  config.vis_lora = lora(description.get_int("vis_lora", 0), "encoder.layers.");
  return config;
}

MicroBatch batch_of(const GoldenFile& file, const std::string& name, const JsonValue& description) {
  MicroBatch batch;
  batch.token_ids = file.ints(name, "token_ids");
  batch.labels = file.ints(name, "labels");
  batch.sample_begin = file.ints(name, "sample_begin");
  batch.images_per_sample = file.ints(name, "images");
  batch.dataset_of_sample.assign(batch.images_per_sample.size(), 0);
  batch.sample_ids.assign(batch.images_per_sample.size(), 0);
  batch.image_token_id = static_cast<int32_t>(description.at("image_token_id").as_int());
  batch.image_size = static_cast<int32_t>(description.at("image_size").as_int());
  batch.pixels = uniform(name + " pixels",
                         batch.num_images() * 3 * batch.image_size * batch.image_size, 0, 1.7);
  return batch;
}

void set_parameters(ParamTable& table, const std::vector<std::string>& trained, int64_t padding) {
  for (Param& param : table.params()) param.trained = false;
  for (const std::string& name : trained) {
    Param* param = table.find(name);
    ASSERT_NE(param, nullptr) << name;
    ASSERT_FALSE(param->constant) << name;
    param->trained = true;
  }
  table.allocate(padding);
  table.allocate_gradients();
  for (Param& param : table.params()) {
    const std::vector<float> values = weight(param.name, param.shape);
    std::memcpy(param.value.f32(), values.data(), values.size() * sizeof(float));
  }
}

std::vector<std::string> gradient_names(const JsonValue& description) {
  std::vector<std::string> names;
  for (const JsonValue name : description.at("gradients")) names.emplace_back(name.as_string());
  return names;
}

Gradients gradients_of(const ParamTable& table) {
  Gradients gradients;
  for (const Param& param : table.params())
    if (param.trained)
      gradients[param.name].assign(param.grad.f32(), param.grad.f32() + param.grad.numel());
  return gradients;
}

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  const double error = std::sqrt(difference / norm);
  return std::isfinite(error) ? error : INFINITY;
}

void expect_gradients(const GoldenFile& file, const std::string& name, const Gradients& gradients,
                      double tolerance) {
  const std::vector<std::string> names = gradient_names(file.description(name));
  const std::vector<float> rows = file.floats(name, "gradients");
  constexpr size_t kWidth = 1 + kProjections + kSamples;
  ASSERT_EQ(rows.size(), names.size() * kWidth);
  EXPECT_EQ(gradients.size(), names.size());
  double largest_norm = 0, largest_error = 0;
  for (size_t n = 0; n < names.size(); ++n)
    largest_norm = std::max<double>(largest_norm, rows[n * kWidth]);
  for (size_t n = 0; n < names.size(); ++n) {
    ASSERT_TRUE(gradients.contains(names[n])) << names[n];
    const std::vector<double> actual = digest(names[n], gradients.at(names[n]));
    const float* expected = &rows[n * kWidth];
    const bool zero = names[n].ends_with("k_proj.bias") && !names[n].starts_with("lang_decoder.");
    const double norm = zero ? 0.05 * largest_norm : static_cast<double>(expected[0]);
    double square = 0;
    for (size_t k = 1; k <= kProjections; ++k)
      square += std::pow(actual[k] - expected[k], 2) / kProjections;
    double error = std::max(std::sqrt(square), std::abs(actual[0] - expected[0]));
    for (size_t k = 1 + kProjections; k < kWidth; ++k)
      error = std::max(error, std::abs(actual[k] - expected[k]));
    EXPECT_LE(error / norm, tolerance) << name << ": gradient of " << names[n];
    largest_error = std::max(largest_error, error / norm);
  }
  fmt::print("{}: largest gradient error {:.1e}\n", name, largest_error);
}

}  // namespace facet::golden
