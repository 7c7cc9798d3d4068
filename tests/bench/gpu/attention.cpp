// Attention by mode and length, forward and backward, at the widths of the reference configuration.
// Backward is that of --attention_backward separate, and at width 128 joint as well. A query row
// sees the keys of its own image (CLIP: 257 tokens; perceiver: 256 queries on 256 patches) or the
// earlier ones of its own sample (causal, MMCA with half of the tokens in images of 256).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "tests/bench/gpu/random_values.h"
#include "tests/bench/gpu/sections.h"

namespace facet::bench {
namespace {

struct Case {
  std::string mode;
  int64_t samples = 0, length = 0;
  int64_t heads = 0, head_width = 0;
  AttentionPlan plan;
};

std::vector<int32_t> equal_samples(int64_t samples, int64_t length) {
  std::vector<int32_t> begin;
  for (int64_t b = 0; b <= samples; ++b) begin.push_back(static_cast<int32_t>(b * length));
  return begin;
}

Case full(const std::string& mode, int64_t samples, int64_t tokens, int64_t heads,
          int64_t head_width) {
  Case c{mode, samples, tokens, heads, head_width, {}};
  make_full_plan(c.plan, samples, tokens, tokens);
  return c;
}

Case causal(int64_t samples, int64_t length, int64_t heads) {
  Case c{"causal", samples, length, heads, 128, {}};
  make_causal_plan(c.plan, equal_samples(samples, length));
  return c;
}

// Images of `image_tokens` and as many tokens of text in turn; the rows of the text come first.
Case mmca(int64_t samples, int64_t length, int64_t heads, int64_t image_tokens) {
  Case c{"mmca", samples, length, heads, 128, {}};
  std::vector<TokenKind> kinds;
  std::vector<int32_t> positions;
  for (int64_t b = 0; b < samples; ++b)
    for (const TokenKind kind : {TokenKind::kText, TokenKind::kImage})
      for (int64_t position = 0; position < length; ++position) {
        const bool is_image = position / image_tokens % 2 == 0;
        if (is_image != (kind == TokenKind::kImage)) continue;
        kinds.push_back(kind);
        positions.push_back(static_cast<int32_t>(position));
      }
  make_mmca_plan(c.plan, equal_samples(samples, length), kinds, positions, MmcaRule::kPublished);
  return c;
}

std::vector<Case> cases(Scale scale) {
  if (scale == Scale::kTiny)
    return {causal(2, 24, 1), mmca(2, 24, 1, 6), full("clip", 2, 5, 2, 64),
            full("perceiver", 2, 8, 1, 128)};
  std::vector<Case> all;
  all.push_back(mmca(2, 4096, 32, 256));
  all.push_back(causal(2, 4096, 32));
  all.push_back(full("clip", 16, 257, 16, 64));
  all.push_back(full("perceiver", 16, 256, 32, 128));
  for (const int64_t length : {1024, 2048, 8192}) {
    all.push_back(mmca(8192 / length, length, 32, 256));
    all.push_back(causal(8192 / length, length, 32));
  }
  return all;
}

struct Timed {
  double milliseconds = 0, flops = 0;
  double rate() const { return flops / (milliseconds * 1e-3); }
};

Timed timed(Bench& bench, const std::function<void()>& call) {
  const int64_t before = bench.ops.counts().attention_flops;
  call();
  const int64_t flops = bench.ops.counts().attention_flops - before;
  return {milliseconds_of(bench.clock, bench.limits, call), static_cast<double>(flops)};
}

void run(Bench& bench, const RandomValues& random, const Case& c) {
  const int64_t width = c.heads * c.head_width, rows = c.samples * c.length;
  Arena arena("attention", 9 * rows * width * 2 + 2 * c.heads * rows * 4 + 4096,
              bench.ops.memory());
  const auto matrix = [&](int64_t n, int64_t columns) {
    const Tensor x = arena.tensor({n, columns}, DType::kBF16);
    random.fill(x.view({n * columns}));
    return x;
  };
  const auto third = [&](const Tensor& qkv, int64_t part) {
    return qkv.column_block(part * width, width);
  };
  const Tensor qkv = matrix(rows, 3 * width), dqkv = matrix(rows, 3 * width);
  const Tensor out = matrix(rows, width), dout = matrix(rows, width);
  const Tensor image = c.plan.num_slots == 2 ? matrix(rows, width) : Tensor();
  const Tensor lse = arena.tensor({c.plan.num_statistics(), c.heads, rows});
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_width)));

  const Timed forward = timed(bench, [&] {
    bench.ops.attention_forward(out, lse, image, third(qkv, 0), third(qkv, 1), third(qkv, 2),
                                c.plan, c.heads, c.heads, scale);
  });
  const auto call_backward = [&] {
    bench.ops.attention_backward(third(dqkv, 0), third(dqkv, 1), third(dqkv, 2), dout,
                                 third(qkv, 0), third(qkv, 1), third(qkv, 2), out, image, lse,
                                 Rotation(), Rotation(), c.plan, c.heads, c.heads, scale);
  };
  const Timed backward = timed(bench, call_backward);
  Timed joint;
  if (cuda::has_joint_attention() && c.head_width == 128) {
    auto& gpu = static_cast<CudaBackend&>(bench.ops);
    gpu.join_attention(true);
    joint = timed(bench, call_backward);
    gpu.join_attention(false);
  }
  bench.report.row("attention", {{"mode", c.mode},
                                 {"samples", c.samples},
                                 {"length", c.length},
                                 {"heads", c.heads},
                                 {"head_width", c.head_width},
                                 {"fwd_ms", forward.milliseconds},
                                 {"fwd_TFLOP/s", forward.rate() * 1e-12},
                                 {"fwd_%", percent(forward.rate(), bench.rates.product)},
                                 {"bwd_ms", backward.milliseconds},
                                 {"bwd_TFLOP/s", backward.rate() * 1e-12},
                                 {"bwd_%", percent(backward.rate(), bench.rates.product)},
                                 {"joint_bwd_ms", joint.milliseconds}});
}

}  // namespace

void measure_attention(Bench& bench) {
  if (!cuda::has_joint_attention())
    fmt::print("the GPU has no joint backward of attention: joint_bwd_ms is 0\n");
  const RandomValues random(bench.ops, 1);
  for (const Case& c : cases(bench.scale)) run(bench, random, c);
}

}  // namespace facet::bench
