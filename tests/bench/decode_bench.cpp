// Decoding token by token against a key/value cache, and the products of few rows that most of its
// time goes into, each beside what it is bound by: reading memory.
//
// The model has 8 decoder layers of width 2048 (438 million parameters, more than caches hold), in
// fp32, bf16 and fp16 by turns; a round is a prompt and `tokens` tokens after it. Then, for weights
// of 4096 x 4096 and 11008 x 4096 and 1 to 16 rows: the rate at which the weight is read, as a
// share of that of a plain sum over the same memory, by turns. Of every kind the fastest token,
// product and sum counts, so that what else the machine does weighs little.
//
// usage: decode_bench [tokens] [threads] [rounds]
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "base/half.h"
#include "base/timer.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/simd.h"
#include "model/vlm.h"
#include "ops/half_storage.h"

namespace facet {
namespace {

constexpr int64_t kPrompt = 16;
constexpr double kForever = 1e30;

VlmConfig bench_config() {
  VlmConfig config;
  config.vision.hidden_size = 64;
  config.vision.intermediate_size = 64;
  config.vision.num_hidden_layers = 1;
  config.vision.num_attention_heads = 1;
  config.vision.image_size = 28;
  config.vision.patch_size = 14;
  config.image_size = 28;
  config.lm.hidden_size = 2048;
  config.lm.intermediate_size = 5504;
  config.lm.num_hidden_layers = 8;
  config.lm.num_attention_heads = 16;
  config.lm.num_key_value_heads = 16;
  config.lm.head_dim = 128;
  config.lm.vocab_size = 8000;
  config.lm.max_position_embeddings = 2048;
  return config;
}

void fill(const Tensor& x) {
  for (int64_t i = 0; i < x.numel(); ++i) {
    const float value = 0.0002f * static_cast<float>(i % 97 - 48);
    if (x.dtype() == DType::kF32)
      x.f32()[i] = value;
    else
      x.data<uint16_t>()[i] = round_to_16_bits(value, x.dtype());
  }
}

// A model with weights of one type.
class Model {
 public:
  Model(Backend& ops, DType dtype) : ops_(ops), dtype_(dtype), model_(bench_config(), table_) {
    table_.allocate(1, ParamTable::Memory::kReal, dtype);
    for (const Param& param : table_.params()) fill(param.value);
  }

  // Seconds of the fastest of so many tokens after a prompt.
  double fastest(int64_t tokens) {
    Context context{ops_, arena_, hooks_, dtype_};
    VisionLanguageModel::Decoding decoding(model_, context, kPrompt + tokens);
    MicroBatch prompt;
    for (int32_t t = 0; t < kPrompt; ++t) prompt.token_ids.push_back(t);
    prompt.labels.assign(kPrompt, kIgnoredLabel);
    prompt.sample_begin.push_back(static_cast<int32_t>(kPrompt));
    prompt.images_per_sample.push_back(0);
    prompt.image_token_id = 7999;
    decoding.append(prompt);
    double seconds = kForever;
    for (int32_t t = 0; t < tokens; ++t) {
      const Timer timer;
      decoding.append_token(t % 7000);
      seconds = std::min(seconds, timer.seconds());
    }
    return seconds;
  }

 private:
  Backend& ops_;
  DType dtype_;
  ParamTable table_;
  VisionLanguageModel model_;
  UnitHooks hooks_;
  Arena arena_{"decoding", int64_t{1} << 30};
};

void compare_types(Backend& cpu, Backend& half, int64_t tokens, int rounds) {
  constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
  std::vector<std::unique_ptr<Model>> models;
  for (const DType dtype : kTypes)
    models.push_back(std::make_unique<Model>(is_16_bit(dtype) ? half : cpu, dtype));
  double seconds[] = {kForever, kForever, kForever};
  for (int round = 0; round < rounds; ++round)
    for (size_t m = 0; m < models.size(); ++m)
      seconds[m] = std::min(seconds[m], models[m]->fastest(tokens));
  for (size_t m = 0; m < models.size(); ++m)
    fmt::print("decode_{} {:.2f} tokens/s, {:.2f} of fp32\n", name_of(kTypes[m]), 1 / seconds[m],
               seconds[0] / seconds[m]);
}

float sum_of(const float* x, Range range) {
  constexpr int kSums = 8;
  Vector8 sums[kSums] = {};
  for (int64_t i = range.begin; i + kSums * kWidth<Vector8> <= range.end;
       i += kSums * kWidth<Vector8>)
#pragma GCC unroll 8
    for (int n = 0; n < kSums; ++n) sums[n] += at<Vector8>(x + i + n * kWidth<Vector8>);
  for (int n = 1; n < kSums; ++n) sums[0] += sums[n];
  return reduce(sums[0], [](float a, float b) { return a + b; });
}

// Seconds to add up memory, all threads.
double time_reading(const float* memory, int64_t floats) {
  const Timer timer;
  float sum = 0;
#pragma omp parallel reduction(+ : sum)
  sum += sum_of(memory, line_range(floats));
  const double seconds = timer.seconds();
  CHECK(sum == sum, ExitCode::kNumericStop, "the benchmark's memory holds no numbers");
  return seconds;
}

void compare_with_reading(Backend& cpu, int64_t outputs, int64_t inputs, int rounds) {
  constexpr int64_t kMostRows = 16;
  // Aligned and in huge pages, as the program's are.
  Arena arena("products", 4 * (outputs * inputs + kMostRows * (inputs + outputs)));
  const Tensor weight = arena.tensor({outputs, inputs}), x = arena.tensor({kMostRows, inputs}),
               y = arena.tensor({kMostRows, outputs});
  std::fill_n(weight.f32(), weight.numel(), 0.001f);
  std::fill_n(x.f32(), x.numel(), 1.0f);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const Tensor weight_OI(weight.f32(), {outputs, inputs}, dtype);
    for (const int64_t rows : {1, 2, 4, 8, 16}) {
      double seconds = kForever, reading = kForever;
      for (int round = 0; round < rounds; ++round) {
        reading = std::min(reading, time_reading(weight.f32(), weight_OI.bytes() / 4));
        const Timer timer;
        cpu.linear_few_rows_forward(y.row_block(0, rows), x.row_block(0, rows), weight_OI, Tensor(),
                                    Tensor());
        seconds = std::min(seconds, timer.seconds());
      }
      fmt::print("{} x {} {}, {} rows: {:.1f} GB/s, {:.2f} of reading\n", outputs, inputs,
                 name_of(dtype), rows, static_cast<double>(weight_OI.bytes()) / seconds / 1e9,
                 reading / seconds);
    }
  }
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  const int64_t tokens = argc > 1 ? std::atoi(argv[1]) : 32;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 9;
  facet::CpuBackend cpu(threads);
  facet::HalfStorage half(cpu, int64_t{1} << 28);
  facet::compare_types(cpu, half, tokens, rounds);
  for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{4096, 4096}, {11008, 4096}})
    facet::compare_with_reading(cpu, outputs, inputs, 3 * rounds);
  return 0;
}
