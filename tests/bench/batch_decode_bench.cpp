// Greedy decoding of several sequences at the same time in fp32: 8 decoder layers of width 1024, a
// vocabulary of 32000, random weights, prompts of 128 tokens, answers of 64. The prompts differ, so
// nothing is shared. Prints the answers' tokens a second, prompts included in the time, for 1 and
// for 8 sequences. scripts/bench_decode.py does the same with Transformers.
//
// usage: batch_decode_bench [threads] [rounds]; the last lines are "name value" pairs for
// scripts/bench_decode.sh
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/check.h"
#include "base/rng.h"
#include "base/timer.h"
#include "chat/sampling.h"
#include "kernels/cpu/backend.h"
#include "model/vlm.h"

namespace facet {
namespace {

constexpr int64_t kPrompt = 128, kAnswer = 64;

VlmConfig bench_config() {
  VlmConfig config;
  config.vision.hidden_size = 64;
  config.vision.intermediate_size = 128;
  config.vision.num_hidden_layers = 1;
  config.vision.num_attention_heads = 1;
  config.vision.image_size = 28;
  config.vision.patch_size = 14;
  config.image_size = 28;
  config.lm.hidden_size = 1024;
  config.lm.intermediate_size = 2816;
  config.lm.num_hidden_layers = 8;
  config.lm.num_attention_heads = 16;
  config.lm.num_key_value_heads = 16;
  config.lm.head_dim = 64;
  config.lm.vocab_size = 32000;
  config.lm.max_position_embeddings = 1024;
  return config;
}

MicroBatch prompt_of(RandomStream& draws) {
  MicroBatch prompt;
  for (int64_t t = 0; t < kPrompt; ++t)
    prompt.token_ids.push_back(static_cast<int32_t>(draws.below(32000)));
  prompt.sample_begin.push_back(static_cast<int32_t>(kPrompt));
  prompt.images_per_sample = {0};
  return prompt;
}

// Seconds of `count` sequences from their prompts to the last token.
double decode(VisionLanguageModel& model, Context& context, int64_t count) {
  RandomStream draws(1, "bench");
  const Timer timer;
  using Decoding = VisionLanguageModel::BatchDecoding;
  const int64_t most = kPrompt + kAnswer;
  Decoding decoding(model, context, count * Decoding::pages_for(most), Decoding::Sharing::kOn);
  std::vector<int> sequences;
  for (int64_t i = 0; i < count; ++i) {
    sequences.push_back(decoding.open(most));
    decoding.append(sequences.back(), prompt_of(draws));
    decoding.run();
  }
  for (int64_t t = 1; t < kAnswer; ++t) {
    for (const int sequence : sequences) {
      const int32_t token = likeliest(decoding.logits(sequence));
      decoding.append_token(sequence, token);
    }
    decoding.run();
  }
  return timer.seconds();
}

void run(int threads, int rounds) {
  ParamTable table;
  VisionLanguageModel model(bench_config(), table);
  table.allocate(1);
  for (Param& param : table.params()) {
    RandomStream stream(1, param.name);
    const bool is_norm = param.role == ParamRole::kNormWeight;
    for (int64_t i = 0; i < param.numel(); ++i)
      param.value.f32()[i] = is_norm ? 1 : 0.04f * (stream.uniform() - 0.5f);
  }
  CpuBackend ops(threads);
  UnitHooks hooks;
  Arena arena("decoding", int64_t{2} << 30);
  Context context{ops, arena, hooks};
  for (const int64_t count : {1, 8}) {
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
      const double rate = static_cast<double>(count * kAnswer) / decode(model, context, count);
      best = std::max(best, rate);
    }
    fmt::print("decode_{} {:.3f}\n", count, best);
  }
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  try {
    facet::run(argc > 1 ? std::atoi(argv[1]) : 2, argc > 2 ? std::atoi(argv[2]) : 2);
  } catch (const facet::Error& error) {
    fmt::print(stderr, "batch_decode_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
