// A full fine-tuning step of the composed model on one rank: 8 decoder layers of width 512, 4
// samples of about 400 tokens (two images of 65 tokens each in it), everything trained; fp32 unless
// the last argument says bf16 or fp16.
// Prints, for causal attention and for MMCA, milliseconds a step (median), GFLOP/s and the share of
// the rate of a large matrix product measured between the steps.
//
// FLOPs of a step: 6 x rows x inputs x outputs of every linear layer (2 forward, 4 backward; 4
// where no input gradient is wanted), and 4 E forward + 10 E backward for every (query, visible
// key) and head. The last layer, but for its keys and values, head and loss count on labelled rows
// only. What is neither, norms, activations, AdamW, counts as no work and only as time.
//
// usage: step_bench [steps] [threads] [fp32|bf16|fp16]; the last lines are "name value" pairs for
// scripts/bench.sh
#include <fmt/core.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/timer.h"
#include "comm/mpi_session.h"
#include "kernels/cpu/backend.h"
#include "model/vlm.h"
#include "ops/half_storage.h"
#include "zero/engine.h"

namespace facet {
namespace {

VlmConfig bench_config(bool mmca) {
  VlmConfig config;
  config.vision.hidden_size = 256;
  config.vision.intermediate_size = 1024;
  config.vision.num_hidden_layers = 4;
  config.vision.num_attention_heads = 4;
  config.vision.image_size = 112;
  config.vision.patch_size = 14;
  config.lm.hidden_size = 512;
  config.lm.intermediate_size = 1408;
  config.lm.num_hidden_layers = 8;
  config.lm.num_attention_heads = 8;
  config.lm.num_key_value_heads = 8;
  config.lm.head_dim = 64;
  config.lm.vocab_size = 8000;
  config.lm.max_position_embeddings = 1024;
  config.image_size = 112;
  config.mmca = mmca;
  return config;
}

// Four samples of 372 to 428 spliced tokens, two images each; the last 30 % of the text carries
// labels.
MicroBatch bench_batch(const VlmConfig& config) {
  MicroBatch batch;
  batch.image_token_id = static_cast<int32_t>(config.lm.vocab_size) - 1;
  batch.image_size = static_cast<int32_t>(config.image_size);
  RandomStream draws(1, "bench");
  for (const int text : {242, 262, 278, 298}) {
    for (int t = 0; t < text; ++t) {
      const bool image = t == 30 || t == 40;
      const auto token = static_cast<int32_t>(draws.below(7000));
      batch.token_ids.push_back(image ? batch.image_token_id : token);
      batch.labels.push_back(t >= text * 7 / 10 ? token : kIgnoredLabel);
    }
    batch.sample_begin.push_back(static_cast<int32_t>(batch.token_ids.size()));
    batch.images_per_sample.push_back(2);
    batch.dataset_of_sample.push_back(0);
    batch.sample_ids.push_back(batch.num_samples() - 1);
  }
  batch.pixels.resize(
      static_cast<size_t>(batch.num_images() * 3 * config.image_size * config.image_size));
  for (float& pixel : batch.pixels) pixel = draws.uniform() - 0.5f;
  return batch;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// Seconds of one product of three square matrices of that size.
double time_product(int64_t n, std::vector<float>& a, std::vector<float>& b,
                    std::vector<float>& c) {
  const Timer timer;
  dnnl_sgemm('N', 'T', n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(), n);
  return timer.seconds();
}

struct Result {
  double step_seconds = 0;
  double flops = 0;
  double product_rate = 0;  // FLOP/s
};

Result run(Communicator& world, Backend& ops, bool mmca, DType dtype, int steps) {
  const VlmConfig config = bench_config(mmca);
  ParamTable table;
  VisionLanguageModel model(config, table);
  table.set_trained("", true);
  EngineOptions engine_options;
  engine_options.compute_dtype = dtype;
  Engine::lay_out(table, world.size(), engine_options);
  GroupOptions rates;
  rates.learning_rate = 1e-4;
  Engine engine(table, make_param_groups(table, rates), world, ops, engine_options);
  const OpenUnit open = engine.filler();
  for (Param& param : table.params()) {
    open(param.unit);
    RandomStream stream(1, param.name);
    const float scale = param.role == ParamRole::kNormWeight ? 0 : 0.02f;
    const float centre = param.role == ParamRole::kNormWeight ? 1 : 0;
    for (int64_t i = 0; i < param.numel(); ++i)
      param.value.f32()[i] = centre + scale * (2 * stream.uniform() - 1);
  }
  open(kNoUnit);
  Arena arena("activations", int64_t{8} << 30);
  Context context{ops, arena, engine, dtype};
  const MicroBatch batch = bench_batch(config);
  LossSums sums;

  constexpr int64_t kLarge = 2048;
  std::vector<float> a(kLarge * kLarge, 0.5f), b(kLarge * kLarge, 0.25f), c(kLarge * kLarge);
  time_product(kLarge, a, b, c);
  std::vector<double> step_seconds, product_seconds;
  Result result;
  for (int step = -2; step < steps; ++step) {
    const int64_t before = ops.counts().matmul_flops + ops.counts().attention_flops;
    const Timer timer;
    engine.begin_step(1);
    model.forward_backward(context, batch, 1.0f / static_cast<float>(batch.num_labelled()), sums);
    const GradientVerdict verdict = engine.reduce_gradients();
    CHECK(verdict.finite, ExitCode::kNumericStop, "the benchmark's gradient is not finite");
    engine.step(verdict, 1);
    const double seconds = timer.seconds();
    const double product = time_product(kLarge, a, b, c);
    if (step < 0) continue;
    result.flops =
        static_cast<double>(ops.counts().matmul_flops + ops.counts().attention_flops - before);
    step_seconds.push_back(seconds);
    product_seconds.push_back(product);
  }
  result.step_seconds = median(step_seconds);
  result.product_rate = 2.0 * kLarge * kLarge * kLarge / median(product_seconds);
  return result;
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  facet::MpiSession session(argc, argv);
  const int steps = argc > 1 ? std::atoi(argv[1]) : 10;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const std::string precision = argc > 3 ? argv[3] : "fp32";
  facet::DType dtype = facet::DType::kF32;
  for (const facet::DType half : {facet::DType::kBF16, facet::DType::kF16})
    if (precision == facet::name_of(half)) dtype = half;
  try {
    facet::CpuBackend cpu(threads);
    facet::HalfStorage half(cpu, int64_t{1} << 30);
    facet::Backend& ops = facet::is_16_bit(dtype) ? static_cast<facet::Backend&>(half) : cpu;
    for (const bool mmca : {false, true}) {
      const facet::Result r = facet::run(session.world(), ops, mmca, dtype, steps);
      const double rate = r.flops / r.step_seconds;
      const char* name = mmca ? "mmca" : "causal";
      fmt::print(
          "{} {}: {:.0f} ms a step, {:.2f} GFLOP a step, {:.1f} GFLOP/s; large product {:.1f} "
          "GFLOP/s; share {:.1f} %\n",
          name, facet::name_of(dtype), r.step_seconds * 1e3, r.flops * 1e-9, rate * 1e-9,
          r.product_rate * 1e-9, 100 * rate / r.product_rate);
      fmt::print("{}_ms {:.3f}\n", name, r.step_seconds * 1e3);
    }
  } catch (const facet::Error& error) {
    session.abort_job(error.code(), error.what(), "");
  }
  return 0;
}
