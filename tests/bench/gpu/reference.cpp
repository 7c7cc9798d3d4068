#include "tests/bench/gpu/reference.h"

#include <algorithm>

#include "base/rng.h"
#include "tests/bench/gpu/random_values.h"
#include "train/measured_pass.h"

namespace facet::bench {
namespace {

constexpr DType kDType = DType::kBF16;

void make_tiny(VlmConfig& config) {
  config.vision.hidden_size = 128;
  config.vision.intermediate_size = 64;
  config.vision.num_hidden_layers = 1;
  config.vision.num_attention_heads = 2;
  config.vision.image_size = config.image_size = 28;
  config.lm.hidden_size = 128;
  config.lm.intermediate_size = 96;
  config.lm.num_hidden_layers = 1;
  config.lm.num_attention_heads = config.lm.num_key_value_heads = 1;
  config.lm.vocab_size = 64;
}

struct SampleShape {
  int64_t samples = 0, length = 0, images = 0;  // the last two of each; image tokens included
};

SampleShape shape_of(Scale scale) {
  if (scale == Scale::kTiny) return {1, kPerceiverQueries + 16, 1};
  return {2, 4096, 8};
}

// The start of a parameter: random numbers, but weights of norms are 1 and biases 0.
void fill(Tensor values, const Param& param, const RandomValues& random, Backend& ops) {
  if (param.role == ParamRole::kNormWeight) return ops.fill(values, 1);
  if (param.role == ParamRole::kBias) return ops.fill(values, 0);
  random.fill(values.view({values.numel()}));
}

void fill(std::span<float> values, const Param& param, const RandomValues& random) {
  if (param.role == ParamRole::kNormWeight)
    std::fill(values.begin(), values.end(), 1.0f);
  else if (param.role == ParamRole::kBias)
    std::fill(values.begin(), values.end(), 0.0f);
  else
    random.fill(values);
}

}  // namespace

VlmConfig reference_config(Scale scale, Mode mode, int64_t layers) {
  VlmConfig config;
  config.vision.hidden_size = 1024;
  config.vision.intermediate_size = 4096;
  config.vision.num_hidden_layers = 24;
  config.vision.num_attention_heads = 16;
  config.vision.image_size = config.image_size = 224;
  config.vision.patch_size = 14;
  config.lm.hidden_size = 4096;
  config.lm.intermediate_size = 11008;
  config.lm.num_hidden_layers = 32;
  config.lm.num_attention_heads = config.lm.num_key_value_heads = 32;
  config.lm.head_dim = 128;
  config.lm.vocab_size = 32002;
  config.lm.max_position_embeddings = 4096;
  config.lm.rms_norm_eps = 1e-5f;
  config.projection = ProjectionKind::kPerceiver;
  config.mmca = mode == Mode::kMmca;
  config.lang_lora = {.rank = 16, .module_name = "model.layers."};
  if (scale == Scale::kTiny) make_tiny(config);
  if (layers > 0) config.lm.num_hidden_layers = layers;
  return config;
}

// The images come at the beginning of a sample, with a few words before each; the last 30 % of its
// text carry labels.
MicroBatch reference_batch(const VlmConfig& config, Scale scale) {
  const SampleShape shape = shape_of(scale);
  const int64_t text = shape.length - shape.images * config.image_tokens();
  constexpr int64_t kWordsBeforeImage = 8;
  MicroBatch batch;
  batch.image_token_id = static_cast<int32_t>(config.lm.vocab_size) - 1;
  batch.image_size = static_cast<int32_t>(config.image_size);
  RandomStream draws(2, "bench");
  for (int64_t b = 0; b < shape.samples; ++b) {
    for (int64_t t = 0; t < text; ++t) {
      const auto token =
          static_cast<int32_t>(draws.below(static_cast<uint64_t>(config.lm.vocab_size) - 2));
      batch.token_ids.push_back(token);
      batch.labels.push_back(t >= text * 7 / 10 ? token : kIgnoredLabel);
      if (t % kWordsBeforeImage != 0 || t / kWordsBeforeImage >= shape.images) continue;
      batch.token_ids.push_back(batch.image_token_id);
      batch.labels.push_back(kIgnoredLabel);
    }
    batch.sample_begin.push_back(static_cast<int32_t>(batch.token_ids.size()));
    batch.images_per_sample.push_back(static_cast<int32_t>(shape.images));
    batch.dataset_of_sample.push_back(0);
    batch.sample_ids.push_back(b);
  }
  batch.pixels.resize(
      static_cast<size_t>(batch.num_images() * 3 * config.image_size * config.image_size));
  for (float& pixel : batch.pixels) pixel = 2 * draws.uniform() - 1;
  return batch;
}

ReferenceRun::ReferenceRun(Communicator& world, Backend& ops, const VlmConfig& config,
                           const MicroBatch& batch)
    : world_(world), ops_(ops), model_(config, table_), source_(batch) {
  options_.zero_stage = 2;
  options_.compute_dtype = kDType;
  table_.place_in(ops.memory());
  Engine::lay_out(table_, world.size(), options_);
  GroupOptions rates;
  rates.learning_rate = 1e-4;
  rates.weight_decay = 0.01;
  UnitHooks no_hooks;
  const PassMemory memory = measure({no_hooks, kDType, InputsIn::kBuffers}, [&](Context& ctx) {
    LossSums sums;
    model_.forward_backward(ctx, batch, 1, sums);
  });
  engine_.emplace(table_, make_param_groups(table_, rates), world, ops, options_);
  make_weights();
  arena_.emplace("activations", memory.activations, ops.memory());
  inputs_.emplace(ops, memory.inputs);
}

void ReferenceRun::make_weights() {
  const RandomValues random(ops_, 0.035f);  // a standard deviation of 0.02
  for (const Param& param : table_.params())
    if (!param.trained) fill(param.value, param, random, ops_);
  for (const StateRange& range : engine_->owned_state())
    fill({range.value, static_cast<size_t>(range.count)}, *range.param, random);
  engine_->publish_state();
}

TrainStep ReferenceRun::steps(const std::function<void()>& wait_for_device) {
  return TrainStep({.world = world_,
                    .source = source_,
                    .model = model_,
                    .context = Context{ops_, *arena_, *engine_, kDType, &*inputs_},
                    .engine = *engine_,
                    .schedule = schedule_,
                    .faults = no_faults_,
                    .wait_for_device = wait_for_device});
}

}  // namespace facet::bench
