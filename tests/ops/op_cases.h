// Every operator once, over operands of any storage, so that one backend can be held against
// another.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "tests/ops/half_operands.h"

namespace facet::op_test {

// n rows of width d.
struct OpCase {
  const char* name;
  void (*run)(Backend& ops, Operands& make, int64_t n, int64_t d);
  int64_t calls = 1;  // of operators
};

// A causal plan over n rows, or one with images in it.
inline AttentionPlan causal_plan(int64_t n) {
  AttentionPlan plan;
  make_causal_plan(plan, {0, static_cast<int32_t>(n / 2), static_cast<int32_t>(n)});
  return plan;
}
inline AttentionPlan mmca_plan(int64_t n) {
  AttentionPlan plan;
  std::vector<TokenKind> kinds;
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < n; ++i) {
    kinds.push_back(i % 3 == 1 ? TokenKind::kImage : TokenKind::kText);
    positions.push_back(static_cast<int32_t>(i < n / 3 ? i : i - n / 3));
  }
  make_mmca_plan(plan, {0, static_cast<int32_t>(n / 3), static_cast<int32_t>(n)}, kinds, positions,
                 MmcaRule::kPublished);
  return plan;
}

// LoRA on the columns from `begin` on of a linear layer's 31 outputs.
struct LoraColumns {
  int64_t begin, outputs;
};
inline std::vector<LoraPart> lora_parts(Operands& make, int64_t d,
                                        std::initializer_list<LoraColumns> columns) {
  std::vector<LoraPart> parts;
  for (const auto& [begin, outputs] : columns) {
    const std::string of = std::to_string(begin);
    parts.push_back({.begin = begin,
                     .u = {},
                     .right = make.vector("right" + of, d * 3).view({d, 3}),
                     .left = make.vector("left" + of, 3 * outputs).view({3, outputs})});
  }
  return parts;
}
inline void run_lora_linear(Backend& ops, Operands& make, int64_t n, int64_t d,
                            std::initializer_list<LoraColumns> columns) {
  std::vector<LoraPart> parts = lora_parts(make, d, columns);
  for (LoraPart& part : parts) part.u = make.out("u" + std::to_string(part.begin), n, 3);
  ops.lora_linear_forward(make.out("y", n, 31), make.in("x", n, d), make.in("weight", 31, d),
                          make.vector("bias", 31), make.in("residual", n, 31), parts, 0.7f);
}
// LoRA's first products of an operator's output (n,d). In 16 bits they are of rounded numbers,
// whose products may cancel one another: that many roundings of what is left; the worst that was
// measured is 8.
constexpr double kOfRounded = 12;
inline std::vector<LoraDown> lora_downs(Operands& make, int64_t n, int64_t d,
                                        std::initializer_list<const char*> layers) {
  std::vector<LoraDown> downs;
  for (const std::string layer : layers)
    downs.push_back(
        {make.out("u of " + layer, n, 3), make.vector("right of " + layer, d * 3).view({d, 3})});
  return downs;
}
inline void run_lora_linear_of_rotated_heads(Backend& ops, Operands& make, int64_t n, int64_t d) {
  std::vector<LoraPart> parts = lora_parts(make, d, {{0, 10}, {10, 21}});
  for (LoraPart& part : parts) part.u = make.out("u" + std::to_string(part.begin), n, 3);
  const Rotation rotation{make.fp32("cos", n, 5, Role::kIn), make.fp32("sin", n, 5, Role::kIn)};
  ops.lora_linear_forward(make.out("y", n, 31), make.in("x", n, d), make.in("weight", 31, d),
                          make.vector("bias", 31), Tensor(), parts, 0.7f, rotation, 2);
}
// What backward keeps between its operators, du, is for the backend alone to read.
inline std::vector<LoraPart> lora_backward_parts(Operands& make, int64_t n, int64_t d,
                                                 std::initializer_list<LoraColumns> columns) {
  std::vector<LoraPart> parts = lora_parts(make, d, columns);
  for (LoraPart& part : parts) {
    const std::string of = std::to_string(part.begin);
    const int64_t outputs = part.left.cols();
    part.u = make.in("u" + of, n, 3);
    part.du = make.fp32("du" + of, n, 3, Role::kIn);
    part.dright = make.fp32_vector("dright" + of, d * 3, Role::kInOut).view({d, 3});
    part.dleft = make.fp32_vector("dleft" + of, 3 * outputs, Role::kInOut).view({3, outputs});
  }
  return parts;
}
inline void run_lora_linear_backward(Backend& ops, Operands& make, int64_t n, int64_t d,
                                     std::initializer_list<LoraColumns> columns) {
  const std::vector<LoraPart> parts = lora_backward_parts(make, n, d, columns);
  const Tensor dy = make.in("dy", n, 31);
  ops.lora_linear_backward_input(make.out("dx", n, d), dy, make.in("weight", 31, d), parts, 0.7f);
  ops.lora_backward_right(make.in("x", n, d), parts);
}

// Of d rows of weights, the first of which is 0.
inline Tensor norms(Operands& make, int64_t d) {
  const Tensor norm = make.fp32_vector("norm", d, Role::kIn);
  for (int64_t i = 0; i < d; ++i) norm.f32()[i] = i == 0 ? 0 : 2 + norm.f32()[i];
  return norm;
}

constexpr int64_t kHeads = 4, kKvHeads = 2;

inline void run_attention(Backend& ops, Operands& make, const AttentionPlan& plan, int64_t n,
                          int64_t d) {
  const Tensor lse = make.fp32_vector("lse", plan.num_statistics() * kHeads * n, Role::kOut);
  for (int64_t i = 0; i < lse.numel(); ++i) lse.f32()[i] = 0;  // entries without a softmax stay
  const Tensor kv = make.in("kv", n, 2 * kKvHeads * d);
  ops.attention_forward(make.out("out", n, kHeads * d),
                        lse.view({plan.num_statistics(), kHeads, n}),
                        plan.num_slots == 2 ? make.out("out_part", n, kHeads * d) : Tensor(),
                        make.in("q", n, kHeads * d), kv.column_block(0, kKvHeads * d),
                        kv.column_block(kKvHeads * d, kKvHeads * d), plan, kHeads, kKvHeads, 0.3f);
}

struct TurnedGradients {
  Tensor dq, dk;
};
// The forward's outputs are inputs here: their errors are not the backward's.
inline TurnedGradients run_attention_backward(Backend& ops, Operands& make,
                                              const AttentionPlan& plan, int64_t n, int64_t d,
                                              const Rotation& q_rotation = {},
                                              const Rotation& k_rotation = {}) {
  const Tensor dq = make.out("dq", n, kHeads * d);
  const Tensor dkv = make.out("dkv", n, 2 * kKvHeads * d), kv = make.in("kv", n, 2 * kKvHeads * d);
  const auto keys = [&](const Tensor& both) { return both.column_block(0, kKvHeads * d); };
  const auto values = [&](const Tensor& both) {
    return both.column_block(kKvHeads * d, kKvHeads * d);
  };
  const Tensor lse = make.fp32_vector("lse", plan.num_statistics() * kHeads * n, Role::kIn);
  const int64_t sums = plan.num_slots * kHeads * n;
  for (int64_t i = 0; i < sums; ++i) lse.f32()[i] = 4 + lse.f32()[i];
  for (int64_t i = sums; i < lse.numel(); ++i) lse.f32()[i] = static_cast<float>(i % 2);
  ops.attention_backward(dq, keys(dkv), values(dkv), make.in("dout", n, kHeads * d),
                         make.in("q", n, kHeads * d), keys(kv), values(kv),
                         make.in("attended", n, kHeads * d),
                         plan.num_slots == 2 ? make.in("attended_part", n, kHeads * d) : Tensor(),
                         lse.view({plan.num_statistics(), kHeads, n}), q_rotation, k_rotation, plan,
                         kHeads, kKvHeads, 0.3f);
  return {dq, keys(dkv)};
}
inline Rotation angles(Operands& make, const std::string& name, int64_t n, int64_t half) {
  return {make.fp32(name + "_cos", n, half, Role::kIn),
          make.fp32(name + "_sin", n, half, Role::kIn)};
}

// Row r from place r of a table whose rows are in another order.
inline std::vector<int32_t> shuffled(int64_t n) {
  std::vector<int32_t> index;
  for (int64_t i = 0; i < n; ++i) index.push_back(static_cast<int32_t>((i * 5 + 3) % (n + 2)));
  std::sort(index.begin(), index.end());
  index.erase(std::unique(index.begin(), index.end()), index.end());
  return index;
}

inline const OpCase kOpCases[] = {
    {"linear_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_forward(make.out("y", n, 33), make.in("x", n, d), make.in("weight", 33, d),
                          make.vector("bias", 33), make.in("residual", n, 33));
     }},
    {"linear_forward_of_many_blocks",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_forward(make.out("y", n, 40 * d), make.in("x", n, 4100),
                          make.in("weight", 40 * d, 4100), Tensor(), Tensor());
     }},
    {"linear_few_rows_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const int64_t rows = n % kFewRows + 1;
       ops.linear_few_rows_forward(make.out("y", rows, 33), make.in("x", rows, d),
                                   make.in("weight", 33, d), make.vector("bias", 33),
                                   make.in("residual", rows, 33));
     }},
    {"linear_backward_input",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_backward_input(make.out("dx", n, d), make.in("dy", n, 33),
                                 make.in("weight", 33, d));
     }},
    {"linear_backward_input_of_many_blocks",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_backward_input(make.out("dx", n, 4100), make.in("dy", n, 40 * d),
                                 make.in("weight", 40 * d, 4100));
     }},
    {"linear_backward_input_accumulate",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_backward_input_accumulate(make.in_out("dx", n, d), make.in("dy", n, 33),
                                            make.in("weight", 33, d));
     }},
    {"linear_backward_weight",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_backward_weight(make.fp32("dweight", 33, d, Role::kInOut),
                                  make.fp32_vector("dbias", 33, Role::kInOut), make.in("dy", n, 33),
                                  make.in("x", n, d));
     }},
    {"linear_backward_weight_of_many_blocks",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_backward_weight(make.fp32("dweight", 40 * d, 4100, Role::kInOut),
                                  make.fp32_vector("dbias", 40 * d, Role::kInOut),
                                  make.in("dy", n, 40 * d), make.in("x", n, 4100));
     }},
    {"linear_backward_weight_of_a_bias_alone",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.linear_backward_weight(Tensor(), make.fp32_vector("dbias", d, Role::kInOut),
                                  make.in("dy", n, d), make.in("x", n, 33));
     }},
    {"lora_forward_accumulate",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.lora_forward_accumulate(make.in_out("y", n, 31), make.out("u", n, 3),
                                   make.in("x", n, d), make.vector("right", d * 3).view({d, 3}),
                                   make.vector("left", 93).view({3, 31}), 0.7f);
     }},
    {"lora_backward_input_accumulate",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const std::vector<LoraPart> parts = lora_backward_parts(make, n, d, {{0, 31}});
       const LoraPart& part = parts[0];
       const Tensor dy = make.in("dy", n, 31);
       ops.lora_backward_input_accumulate(make.in_out("dx", n, d), part.dleft, part.du, dy, part.u,
                                          part.right, part.left, 0.7f);
       ops.lora_backward_right(make.in("x", n, d), parts);
     },
     2},
    {"lora_backward_right",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const LoraPart part{.u = {},
                           .right = make.vector("right", d * 3).view({d, 3}),
                           .left = make.vector("left", 93).view({3, 31}),
                           .du = make.fp32("du", n, 3, Role::kIn),
                           .dright = make.fp32_vector("dright", d * 3, Role::kInOut).view({d, 3})};
       ops.lora_backward_input_accumulate(Tensor(), Tensor(), part.du, make.in("dy", n, 31),
                                          Tensor(), part.right, part.left, 0.7f);
       ops.lora_backward_right(make.in("x", n, d), {&part, 1});
     },
     2},
    {"lora_linear_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_lora_linear(ops, make, n, d, {{0, 11}, {11, 20}});
     }},
    {"lora_linear_forward_of_some_columns",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_lora_linear(ops, make, n, d, {{0, 11}, {22, 9}});
     }},
    {"lora_linear_forward_of_rotated_heads", run_lora_linear_of_rotated_heads},
    {"lora_linear_backward_input",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_lora_linear_backward(ops, make, n, d, {{0, 11}, {22, 9}});
     },
     2},
    {"dora_row_norms",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const int64_t outputs = std::max<int64_t>(n, 1);  // a layer has one
       ops.dora_row_norms(make.fp32_vector("norm", outputs, Role::kOut),
                          make.in("weight", outputs, d), make.vector("right", d * 3).view({d, 3}),
                          make.vector("left", 3 * outputs).view({3, outputs}), 0.7f);
     }},
    {"dora_row_norms_of_many_blocks",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.dora_row_norms(make.fp32_vector("norm", 40 * d, Role::kOut),
                          make.in("weight", 40 * d, 4100 + n),
                          make.vector("right", 3 * (4100 + n)).view({4100 + n, 3}),
                          make.vector("left", 3 * 40 * d).view({3, 40 * d}), 0.7f);
     }},
    {"dora_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.dora_forward(make.out("y", n, d), make.in("z", n, d), make.vector("magnitude", d),
                        norms(make, d), make.vector("bias", d), make.in("residual", n, d));
     }},
    {"dora_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.dora_backward(make.out("dz", n, d), make.fp32_vector("dmagnitude", d, Role::kInOut),
                         make.in("dy", n, d), make.in("z", n, d), make.vector("magnitude", d),
                         norms(make, d));
     }},
    {"rms_norm_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.rms_norm_forward(make.out("y", n, d), make.fp32_vector("rstd", n, Role::kOut),
                            make.in("x", n, d), make.vector("weight", d), 1e-5f);
     }},
    {"rms_norm_forward_with_lora",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.rms_norm_forward(make.out("y", n, d), make.fp32_vector("rstd", n, Role::kOut),
                            make.in("x", n, d), make.vector("weight", d), 1e-5f,
                            lora_downs(make, n, d, {"q", "k", "v"}));
     }},
    {"rms_norm_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.rms_norm_backward(make.out("dx", n, d), make.fp32_vector("dweight", d, Role::kInOut),
                             make.out("y", n, d), make.in("dy", n, d), make.in("x", n, d),
                             make.vector("weight", d), make.fp32_vector("rstd", n, Role::kIn),
                             make.in("dresidual", n, d));
     }},
    {"layer_norm_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.layer_norm_forward(make.out("y", n, d), make.fp32_vector("mean", n, Role::kOut),
                              make.fp32_vector("rstd", n, Role::kOut), make.in("x", n, d),
                              make.vector("weight", d), make.vector("bias", d), 1e-5f);
     }},
    {"layer_norm_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.layer_norm_backward(make.out("dx", n, d), make.fp32_vector("dweight", d, Role::kInOut),
                               make.fp32_vector("dbias", d, Role::kInOut), make.in("dy", n, d),
                               make.in("x", n, d), make.vector("weight", d),
                               make.fp32_vector("mean", n, Role::kIn),
                               make.fp32_vector("rstd", n, Role::kIn), Tensor());
     }},
    {"swiglu_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.swiglu_forward(make.out("act", n, d), make.in("gate_up", n, 2 * d));
     }},
    {"swiglu_forward_with_lora",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.swiglu_forward(make.out("act", n, d), make.in("gate_up", n, 2 * d),
                          lora_downs(make, n, d, {"down"}));
     }},
    {"swiglu_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.swiglu_backward(make.out("dgate_up", n, 2 * d), make.out("act", n, d),
                           make.in("dact", n, d), make.in("gate_up", n, 2 * d));
     }},
    {"gelu_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.gelu_forward(make.out("y", n, d), make.in("x", n, d), Activation::kGelu);
     }},
    {"gelu_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.gelu_backward(make.out("dx", n, d), make.in("dy", n, d), make.in("x", n, d),
                         Activation::kQuickGelu);
     }},
    {"rope_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.rope_forward(make.in_out("x", n, 3 * 2 * d), make.fp32("cos", n, d, Role::kIn),
                        make.fp32("sin", n, d, Role::kIn), 3);
     }},
    {"rope_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.rope_backward(make.in_out("dx", n, 3 * 2 * d), make.fp32("cos", n, d, Role::kIn),
                         make.fp32("sin", n, d, Role::kIn), 3);
     }},
    {"attention_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_attention(ops, make, causal_plan(n), n, d);
     }},
    {"attention_forward_of_two_kinds",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_attention(ops, make, mmca_plan(n), n, d);
     }},
    {"attention_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_attention_backward(ops, make, causal_plan(n), n, d);
     }},
    {"attention_backward_turned",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_attention_backward(ops, make, causal_plan(n), n, 2 * d, angles(make, "q", n, d),
                              angles(make, "k", n, d));
     }},
    {"attention_backward_of_two_kinds",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       run_attention_backward(ops, make, mmca_plan(n), n, d);
     }},
    {"splice_forward",
     [](Backend& ops, Operands& make, int64_t, int64_t d) {
       ops.splice_forward(make.out("x", 5, d), make.in("embed", 3, d), make.in("image", 2, d),
                          make.ints({2, -1, 0, -2, 2}));
     }},
    {"splice_backward",
     [](Backend& ops, Operands& make, int64_t, int64_t d) {
       ops.splice_backward(make.fp32("dembed", 3, d, Role::kInOut), make.out("dimage", 2, d),
                           make.in("dx", 5, d), make.ints({2, -1, 0, -2, 2}));
     }},
    {"gather_rows_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const std::vector<int32_t> index = shuffled(n);
       ops.gather_rows_forward(make.out("y", static_cast<int64_t>(index.size()), d),
                               make.in("x", n + 2, d), make.ints(index));
     }},
    {"gather_rows_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const std::vector<int32_t> index = shuffled(n);
       ops.gather_rows_backward(make.out("dx", n + 2, d),
                                make.in("dy", static_cast<int64_t>(index.size()), d),
                                make.ints(index));
     }},
    {"repeat_rows_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.repeat_rows_forward(make.out("y", 3 * n, d), make.in("x", n, d), 3);
     }},
    {"repeat_rows_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.repeat_rows_backward(make.out("dx", n, d), make.in("dy", 3 * n, d), 3);
     }},
    {"add_repeated_rows_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.add_repeated_rows_forward(make.out("y", 3 * n, d), make.in("x", 3 * n, d),
                                     make.in("rows", n, d));
     }},
    {"add_repeated_rows_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.add_repeated_rows_backward(make.fp32("drows", n, d, Role::kInOut),
                                      make.in("dy", 3 * n, d));
     }},
    {"patch_rows_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t) {
       const Tensor pixels = make.fp32_vector("pixels", n * 3 * 36, Role::kIn);
       for (int64_t i = 0; i < pixels.numel(); ++i)
         pixels.f32()[i] *= 1.0001f;  // what 16 bits do not hold
       ops.patch_rows_forward(make.out_vector("patches", n * 4 * 27).view({n * 4, 27}),
                              pixels.view({n, 3, 6, 6}), 3);
     }},
    {"vision_embed_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.vision_embed_forward(make.out("x", 2 * (1 + n), d), make.in("patch", 2 * n, d),
                                make.vector("class", d), make.in("position", 1 + n, d));
     }},
    {"vision_embed_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.vision_embed_backward(make.out("dpatch", 2 * n, d),
                                 make.fp32_vector("dclass", d, Role::kInOut),
                                 make.fp32("dposition", 1 + n, d, Role::kInOut),
                                 make.in("dx", 2 * (1 + n), d));
     }},
    {"resize_positions_forward",
     [](Backend& ops, Operands& make, int64_t, int64_t d) {
       ops.resize_positions_forward(make.out("out", 25, d), make.in("in", 9, d));
     }},
    {"resize_positions_backward_accumulate",
     [](Backend& ops, Operands& make, int64_t, int64_t d) {
       ops.resize_positions_backward_accumulate(make.fp32("din", 9, d, Role::kInOut),
                                                make.fp32("dout", 25, d, Role::kIn));
     }},
    {"cross_entropy_forward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.cross_entropy_forward(make.fp32_vector("row_loss", n, Role::kOut),
                                 make.in("logits", n, d),
                                 make.ints(std::vector<int32_t>(static_cast<size_t>(n), 0)));
     }},
    {"cross_entropy_forward_backward",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.cross_entropy_forward_backward(
           make.fp32_vector("row_loss", n, Role::kOut), make.in_out("logits", n, d),
           make.ints(std::vector<int32_t>(static_cast<size_t>(n), 0)), 8.5f);
     }},
    {"fill",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.fill(make.out("x", n, d), 0.1f);
     }},
    {"copy",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.copy(make.out("y", n, d), make.in("x", n, d));
     }},
    {"copy_that_widens",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.copy(make.fp32("y", n, d, Role::kOut), make.in("x", n, d));
     }},
    {"add_accumulate",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.add_accumulate(make.in_out("y", n, d), make.in("x", n, d));
     }},
    {"add_accumulate_to_a_parameter_gradient",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.add_accumulate(make.fp32("y", n, d, Role::kInOut), make.in("x", n, d));
     }},
    {"sum_rows",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.sum_rows(make.fp32_vector("y", d, Role::kOut), make.in("x", 1 + n, d));
     }},
    {"sum_rows_accumulate",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       ops.sum_rows_accumulate(make.fp32_vector("y", d, Role::kInOut), make.in("x", 1 + n, d));
     }},
    {"adamw_step",
     [](Backend& ops, Operands& make, int64_t n, int64_t d) {
       const Tensor squares = make.fp32_vector("exp_avg_sq", n * d, Role::kInOut);
       for (int64_t i = 0; i < squares.numel(); ++i) squares.f32()[i] *= squares.f32()[i];
       AdamWStep step;
       step.learning_rate = 0.01;
       step.weight_decay = 0.1;
       step.gradient_scale = 0.25f;
       step.t = 3;
       ops.adamw_step(make.fp32_vector("param", n * d, Role::kInOut),
                      make.fp32_vector("exp_avg", n * d, Role::kInOut), squares, Tensor(),
                      make.fp32_vector("grad", n * d, Role::kIn), step);
     }},
};

}  // namespace facet::op_test
