// Every operator once with operands that fit, and the ways in which each of them can be spoiled.
#pragma once

#include <deque>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "ops/ops.h"

namespace facet::contract_test {

// What is wrong with one operand of a call.
enum class Flaw : uint8_t { kNone, kAbsent, kRows, kColumns, kOtherFloat, kOtherKind, kGaps };

inline constexpr std::pair<Flaw, const char*> kFlaws[] = {
    {Flaw::kAbsent, "absent"},
    {Flaw::kRows, "a row more"},
    {Flaw::kColumns, "a column more"},
    {Flaw::kOtherFloat, "of another floating type"},
    {Flaw::kOtherKind, "of no such kind"},
    {Flaw::kGaps, "with gaps"}};

// What an operand may be.
enum Freedom : unsigned {
  kFixed = 0,
  kOptional = 1,
  kAnyRows = 2,
  kAnyColumns = 4,
  kAnySize = kAnyRows | kAnyColumns,
  kAnyFloat = 8,
  kAnyType = 16,
  kDense = 32,
  kNarrower = 64,  // of 16 bits where the activations are fp32
};

struct Operand {
  std::string name;
  unsigned freedom;
  DType dtype;
  bool is_vector;

  bool refuses(Flaw flaw) const {
    const auto may = [&](unsigned freedoms) { return (freedom & freedoms) != 0; };
    switch (flaw) {
      case Flaw::kNone: return false;
      case Flaw::kAbsent: return !may(kOptional);
      case Flaw::kRows: return !may(kAnyRows);
      case Flaw::kColumns: return !may(kAnyColumns);
      case Flaw::kOtherFloat:
        return !may(kAnyFloat | kAnyType) && !(may(kNarrower) && dtype == DType::kF32);
      case Flaw::kOtherKind: return !may(kAnyType);
      case Flaw::kGaps: return is_vector || may(kDense);
    }
    return false;
  }
};

// The operands of one call, right but for a flaw of the named one. Zeros, in memory for more than
// is asked for, so that a missing check is a failure and no crash.
class Call {
 public:
  explicit Call(DType activation, std::string flawed = "", Flaw flaw = Flaw::kNone)
      : activation_(activation), flawed_(std::move(flawed)), flaw_(flaw) {}

  // The activations' type.
  Tensor matrix(const char* name, int64_t rows, int64_t cols, unsigned freedom = kFixed) {
    return add({name, freedom, activation_, false}, rows, cols);
  }
  Tensor vector(const char* name, int64_t count, unsigned freedom = kFixed) {
    return add({name, freedom, activation_, true}, 1, count);
  }
  Tensor fp32(const char* name, int64_t rows, int64_t cols, unsigned freedom = kFixed) {
    return add({name, freedom, DType::kF32, false}, rows, cols);
  }
  Tensor fp32_vector(const char* name, int64_t count, unsigned freedom = kFixed) {
    return add({name, freedom, DType::kF32, true}, 1, count);
  }
  Tensor bf16_vector(const char* name, int64_t count, unsigned freedom = kFixed) {
    return add({name, freedom, DType::kBF16, true}, 1, count);
  }
  // 0, 1, 2, ...
  Tensor ints(const char* name, int64_t count) {
    const Tensor t = add({name, kFixed, DType::kI32, true}, 1, count);
    if (t.defined() && t.dtype() == DType::kI32)
      for (int32_t i = 0; i < t.numel(); ++i) t.i32()[i] = i;
    return t;
  }
  Tensor pixels(const char* name, int64_t images, int64_t side) {
    const Tensor t = add({name, kFixed, DType::kF32, false}, images, side);
    if (!t.defined()) return t;
    return Tensor(t.raw(), {t.size(0), 3, side, t.size(1)}, t.dtype());
  }

  const std::vector<Operand>& operands() const { return operands_; }
  void* host() { return memory_.emplace_back(kWords).data(); }

 private:
  static constexpr size_t kWords = 4096;

  Tensor add(const Operand& operand, int64_t rows, int64_t cols) {
    operands_.push_back(operand);
    void* data = host();
    const Flaw flaw = operand.name == flawed_ ? flaw_ : Flaw::kNone;
    DType dtype = operand.dtype;
    if (flaw == Flaw::kAbsent) return {};
    if (flaw == Flaw::kOtherFloat) dtype = dtype == DType::kF32 ? DType::kBF16 : DType::kF32;
    if (flaw == Flaw::kOtherKind) dtype = dtype == DType::kI32 ? DType::kU8 : DType::kI32;
    if (operand.is_vector) {
      const int64_t count = cols + (flaw == Flaw::kRows || flaw == Flaw::kColumns ? 1 : 0);
      if (flaw == Flaw::kGaps) return Tensor(data, {count, 2}, dtype).column_block(0, 1);
      return Tensor(data, {count}, dtype);
    }
    rows += flaw == Flaw::kRows ? 1 : 0;
    cols += flaw == Flaw::kColumns ? 1 : 0;
    if (flaw == Flaw::kGaps) return Tensor(data, {rows, cols + 1}, dtype).column_block(0, cols);
    return Tensor(data, {rows, cols}, dtype);
  }

  DType activation_;
  std::string flawed_;
  Flaw flaw_;
  std::vector<Operand> operands_;
  std::deque<std::vector<uint32_t>> memory_;
};

inline AttentionPlan plan_of_one_kind() {
  AttentionPlan plan;
  make_causal_plan(plan, {0, 2, 5});
  return plan;
}
inline AttentionPlan plan_of_two_kinds() {
  AttentionPlan plan;
  const std::vector<TokenKind> kinds{TokenKind::kText, TokenKind::kImage, TokenKind::kText,
                                     TokenKind::kImage, TokenKind::kText};
  make_mmca_plan(plan, {0, 2, 5}, kinds, {0, 1, 0, 1, 2}, MmcaRule::kPublished);
  return plan;
}

inline void attend(Backend& ops, Call& call, const AttentionPlan& plan, const Tensor& out_part) {
  ops.attention_forward(
      call.matrix("out", 5, 8), call.fp32_vector("lse", plan.num_statistics() * 2 * 5), out_part,
      call.matrix("q", 5, 8), call.matrix("k", 5, 4), call.matrix("v", 5, 4), plan, 2, 1, 0.5f);
}

inline void attend_backward(Backend& ops, Call& call, const AttentionPlan& plan,
                            const Tensor& out_part) {
  ops.attention_backward(call.matrix("dq", 5, 8), call.matrix("dk", 5, 4), call.matrix("dv", 5, 4),
                         call.matrix("dout", 5, 8), call.matrix("q", 5, 8), call.matrix("k", 5, 4),
                         call.matrix("v", 5, 4), call.matrix("out", 5, 8), out_part,
                         call.fp32_vector("lse", plan.num_statistics() * 2 * 5),
                         {call.fp32("q_cos", 5, 2), call.fp32("q_sin", 5, 2)},
                         {call.fp32("k_cos", 5, 2), call.fp32("k_sin", 5, 2)}, plan, 2, 1, 0.5f);
}

struct Case {
  const char* op;
  void (*run)(Backend& ops, Call& call);
};
inline void PrintTo(const Case& c, std::ostream* out) { *out << c.op; }

// Sizes are chosen so that a row or a column more does not fit by chance.
inline const Case kCases[] = {
    {"linear_forward",
     [](Backend& ops, Call& call) {
       ops.linear_forward(call.matrix("y", 3, 5), call.matrix("x", 3, 4),
                          call.matrix("weight", 5, 4), call.vector("bias", 5, kOptional),
                          call.matrix("residual", 3, 5, kOptional));
     }},
    {"linear_few_rows_forward",
     [](Backend& ops, Call& call) {
       ops.linear_few_rows_forward(
           call.matrix("y", 3, 5), call.matrix("x", 3, 4), call.matrix("weight", 5, 4, kNarrower),
           call.vector("bias", 5, kOptional), call.matrix("residual", 3, 5, kOptional));
     }},
    {"linear_backward_input",
     [](Backend& ops, Call& call) {
       ops.linear_backward_input(call.matrix("dx", 3, 4), call.matrix("dy", 3, 5),
                                 call.matrix("weight", 5, 4));
     }},
    {"linear_backward_input_accumulate",
     [](Backend& ops, Call& call) {
       ops.linear_backward_input_accumulate(call.matrix("dx", 3, 4), call.matrix("dy", 3, 5),
                                            call.matrix("weight", 5, 4));
     }},
    {"linear_backward_weight",
     [](Backend& ops, Call& call) {
       ops.linear_backward_weight(call.fp32("dweight", 5, 4, kOptional),
                                  call.fp32_vector("dbias", 5, kOptional), call.matrix("dy", 3, 5),
                                  call.matrix("x", 3, 4));
     }},
    {"lora_forward_accumulate",
     [](Backend& ops, Call& call) {
       ops.lora_forward_accumulate(call.matrix("y", 3, 5), call.matrix("u", 3, 2),
                                   call.matrix("x", 3, 4), call.matrix("right", 4, 2, kDense),
                                   call.matrix("left", 2, 5, kDense), 1);
     }},
    {"lora_backward_input_accumulate",
     [](Backend& ops, Call& call) {
       ops.lora_backward_input_accumulate(
           call.matrix("dx", 3, 4, kOptional), call.fp32("dleft", 2, 5, kOptional),
           call.fp32("du", 3, 2), call.matrix("dy", 3, 5), call.matrix("u", 3, 2),
           call.matrix("right", 4, 2, kDense), call.matrix("left", 2, 5, kDense), 1);
     }},
    {"lora_backward_right",
     [](Backend& ops, Call& call) {
       const LoraPart part{.u = {},
                           .right = call.matrix("right", 4, 2, kDense),
                           .left = {},
                           .du = call.fp32("du", 3, 2),
                           .dright = call.fp32("dright", 4, 2, kOptional)};
       ops.lora_backward_right(call.matrix("x", 3, 4), {&part, 1});
     }},
    {"lora_linear_forward",
     [](Backend& ops, Call& call) {
       const LoraPart part{.begin = 2,
                           .u = call.matrix("u", 3, 2),
                           .right = call.matrix("right", 4, 2, kDense),
                           .left = call.matrix("left", 2, 3, kDense)};
       ops.lora_linear_forward(call.matrix("y", 3, 5), call.matrix("x", 3, 4),
                               call.matrix("weight", 5, 4), call.vector("bias", 5, kOptional),
                               call.matrix("residual", 3, 5, kOptional), {&part, 1}, 1);
     }},
    {"lora_linear_forward",
     [](Backend& ops, Call& call) {
       const LoraPart part{.begin = 2,
                           .u = call.matrix("u", 3, 2),
                           .right = call.matrix("right", 4, 2, kDense),
                           .left = call.matrix("left", 2, 3, kDense)};
       ops.lora_linear_forward(call.matrix("y", 3, 5), call.matrix("x", 3, 4),
                               call.matrix("weight", 5, 4), Tensor(), Tensor(), {&part, 1}, 1,
                               {call.fp32("cos", 3, 1), call.fp32("sin", 3, 1)}, 2);
     }},
    {"lora_linear_backward_input",
     [](Backend& ops, Call& call) {
       const LoraPart part{.begin = 2,
                           .u = call.matrix("u", 3, 2),
                           .right = call.matrix("right", 4, 2, kDense),
                           .left = call.matrix("left", 2, 3, kDense),
                           .du = call.fp32("du", 3, 2),
                           .dleft = call.fp32("dleft", 2, 3, kOptional)};
       ops.lora_linear_backward_input(call.matrix("dx", 3, 4, kOptional), call.matrix("dy", 3, 5),
                                      call.matrix("weight", 5, 4), {&part, 1}, 1);
     }},
    {"dora_row_norms",
     [](Backend& ops, Call& call) {
       ops.dora_row_norms(call.fp32_vector("norm", 5), call.matrix("weight", 5, 4),
                          call.matrix("right", 4, 2), call.matrix("left", 2, 5), 1);
     }},
    {"dora_forward",
     [](Backend& ops, Call& call) {
       ops.dora_forward(call.matrix("y", 3, 5), call.matrix("z", 3, 5), call.vector("magnitude", 5),
                        call.fp32_vector("norm", 5), call.vector("bias", 5, kOptional),
                        call.matrix("residual", 3, 5, kOptional));
     }},
    {"dora_backward",
     [](Backend& ops, Call& call) {
       ops.dora_backward(call.matrix("dz", 3, 5), call.fp32_vector("dmagnitude", 5, kOptional),
                         call.matrix("dy", 3, 5), call.matrix("z", 3, 5),
                         call.vector("magnitude", 5), call.fp32_vector("norm", 5));
     }},
    {"rms_norm_forward",
     [](Backend& ops, Call& call) {
       const LoraDown down{call.matrix("u", 3, 2), call.matrix("right", 4, 2, kDense)};
       ops.rms_norm_forward(call.matrix("y", 3, 4), call.fp32_vector("rstd", 3),
                            call.matrix("x", 3, 4), call.vector("weight", 4), 1e-5f, {&down, 1});
     }},
    {"rms_norm_backward",
     [](Backend& ops, Call& call) {
       ops.rms_norm_backward(call.matrix("dx", 3, 4), call.fp32_vector("dweight", 4, kOptional),
                             call.matrix("y", 3, 4, kOptional), call.matrix("dy", 3, 4),
                             call.matrix("x", 3, 4), call.vector("weight", 4),
                             call.fp32_vector("rstd", 3),
                             call.matrix("dresidual", 3, 4, kOptional));
     }},
    {"layer_norm_forward",
     [](Backend& ops, Call& call) {
       ops.layer_norm_forward(call.matrix("y", 3, 4), call.fp32_vector("mean", 3),
                              call.fp32_vector("rstd", 3), call.matrix("x", 3, 4),
                              call.vector("weight", 4), call.vector("bias", 4), 1e-5f);
     }},
    {"layer_norm_backward",
     [](Backend& ops, Call& call) {
       ops.layer_norm_backward(call.matrix("dx", 3, 4), call.fp32_vector("dweight", 4, kOptional),
                               call.fp32_vector("dbias", 4, kOptional), call.matrix("dy", 3, 4),
                               call.matrix("x", 3, 4), call.vector("weight", 4),
                               call.fp32_vector("mean", 3), call.fp32_vector("rstd", 3),
                               call.matrix("dresidual", 3, 4, kOptional));
     }},
    {"swiglu_forward",
     [](Backend& ops, Call& call) {
       const LoraDown down{call.matrix("u", 3, 2), call.matrix("right", 4, 2, kDense)};
       ops.swiglu_forward(call.matrix("act", 3, 4), call.matrix("gate_up", 3, 8), {&down, 1});
     }},
    {"swiglu_backward",
     [](Backend& ops, Call& call) {
       ops.swiglu_backward(call.matrix("dgate_up", 3, 8), call.matrix("act", 3, 4, kOptional),
                           call.matrix("dact", 3, 4), call.matrix("gate_up", 3, 8));
     }},
    {"gelu_forward",
     [](Backend& ops, Call& call) {
       ops.gelu_forward(call.matrix("y", 3, 4), call.matrix("x", 3, 4), Activation::kGelu);
     }},
    {"gelu_backward",
     [](Backend& ops, Call& call) {
       ops.gelu_backward(call.matrix("dx", 3, 4), call.matrix("dy", 3, 4), call.matrix("x", 3, 4),
                         Activation::kQuickGelu);
     }},
    {"rope_forward",
     [](Backend& ops, Call& call) {
       ops.rope_forward(call.matrix("x", 3, 8, kAnyFloat), call.fp32("cos", 3, 2),
                        call.fp32("sin", 3, 2), 2);
     }},
    {"rope_backward",
     [](Backend& ops, Call& call) {
       ops.rope_backward(call.matrix("dx", 3, 8, kAnyFloat), call.fp32("cos", 3, 2),
                         call.fp32("sin", 3, 2), 2);
     }},
    {"attention_forward",
     [](Backend& ops, Call& call) { attend(ops, call, plan_of_one_kind(), Tensor()); }},
    {"attention_forward",
     [](Backend& ops, Call& call) {
       attend(ops, call, plan_of_two_kinds(), call.matrix("out_part", 5, 8));
     }},
    {"attention_backward",
     [](Backend& ops, Call& call) { attend_backward(ops, call, plan_of_one_kind(), Tensor()); }},
    {"attention_backward",
     [](Backend& ops, Call& call) {
       attend_backward(ops, call, plan_of_two_kinds(), call.matrix("out_part", 5, 8));
     }},
    {"splice_forward",
     [](Backend& ops, Call& call) {
       ops.splice_forward(call.matrix("x", 3, 4), call.matrix("embed", 7, 4, kAnyRows),
                          call.matrix("image", 2, 4, kAnyRows | kOptional), call.ints("source", 3));
     }},
    {"splice_backward",
     [](Backend& ops, Call& call) {
       ops.splice_backward(call.fp32("dembed", 7, 4, kAnyRows | kOptional),
                           call.matrix("dimage", 2, 4, kAnyRows | kOptional),
                           call.matrix("dx", 3, 4), call.ints("source", 3));
     }},
    {"gather_rows_forward",
     [](Backend& ops, Call& call) {
       ops.gather_rows_forward(call.matrix("y", 3, 4), call.matrix("x", 7, 4, kAnyRows),
                               call.ints("index", 3));
     }},
    {"gather_rows_backward",
     [](Backend& ops, Call& call) {
       ops.gather_rows_backward(call.matrix("dx", 7, 4, kAnyRows), call.matrix("dy", 3, 4),
                                call.ints("index", 3));
     }},
    {"repeat_rows_forward",
     [](Backend& ops, Call& call) {
       ops.repeat_rows_forward(call.matrix("y", 6, 4), call.matrix("x", 3, 4), 2);
     }},
    {"repeat_rows_backward",
     [](Backend& ops, Call& call) {
       ops.repeat_rows_backward(call.matrix("dx", 3, 4), call.matrix("dy", 6, 4), 2);
     }},
    {"add_repeated_rows_forward",
     [](Backend& ops, Call& call) {
       ops.add_repeated_rows_forward(call.matrix("y", 6, 4), call.matrix("x", 6, 4),
                                     call.matrix("rows", 3, 4));
     }},
    {"add_repeated_rows_backward",
     [](Backend& ops, Call& call) {
       ops.add_repeated_rows_backward(call.fp32("drows", 3, 4), call.matrix("dy", 6, 4, kAnyFloat));
     }},
    {"patch_rows_forward",
     [](Backend& ops, Call& call) {
       ops.patch_rows_forward(call.matrix("patches", 8, 12, kDense | kAnyFloat),
                              call.pixels("pixels", 2, 4), 2);
     }},
    {"vision_embed_forward",
     [](Backend& ops, Call& call) {
       ops.vision_embed_forward(call.matrix("x", 8, 4), call.matrix("patch", 6, 4),
                                call.vector("class", 4), call.matrix("position", 4, 4));
     }},
    {"vision_embed_backward",
     [](Backend& ops, Call& call) {
       ops.vision_embed_backward(call.matrix("dpatch", 6, 4),
                                 call.fp32_vector("dclass", 4, kOptional),
                                 call.fp32("dposition", 4, 4, kOptional), call.matrix("dx", 8, 4));
     }},
    {"resize_positions_forward",
     [](Backend& ops, Call& call) {
       ops.resize_positions_forward(call.matrix("out", 25, 4), call.matrix("in", 9, 4));
     }},
    {"resize_positions_backward_accumulate",
     [](Backend& ops, Call& call) {
       ops.resize_positions_backward_accumulate(call.fp32("din", 9, 4), call.fp32("dout", 25, 4));
     }},
    {"cross_entropy_forward",
     [](Backend& ops, Call& call) {
       ops.cross_entropy_forward(call.fp32_vector("row_loss", 3),
                                 call.matrix("logits", 3, 7, kAnyColumns | kAnyFloat),
                                 call.ints("labels", 3));
     }},
    {"cross_entropy_forward_backward",
     [](Backend& ops, Call& call) {
       ops.cross_entropy_forward_backward(call.fp32_vector("row_loss", 3),
                                          call.matrix("logits", 3, 7, kAnyColumns | kAnyFloat),
                                          call.ints("labels", 3), 1);
     }},
    {"fill",
     [](Backend& ops, Call& call) { ops.fill(call.matrix("x", 3, 4, kAnySize | kAnyFloat), 1); }},
    {"copy",
     [](Backend& ops, Call& call) {
       ops.copy(call.matrix("y", 3, 4, kAnyFloat), call.matrix("x", 3, 4, kAnyFloat));
     }},
    {"add_accumulate",
     [](Backend& ops, Call& call) {
       ops.add_accumulate(call.matrix("y", 3, 4, kAnyFloat), call.matrix("x", 3, 4, kAnyFloat));
     }},
    {"sum_rows",
     [](Backend& ops, Call& call) {
       ops.sum_rows(call.fp32_vector("y", 4), call.matrix("x", 3, 4, kAnyRows | kAnyFloat));
     }},
    {"sum_rows_accumulate",
     [](Backend& ops, Call& call) {
       ops.sum_rows_accumulate(call.fp32_vector("y", 4),
                               call.matrix("x", 3, 4, kAnyRows | kAnyFloat));
     }},
    {"copy_from_host",
     [](Backend& ops, Call& call) {
       ops.copy_from_host(call.matrix("y", 3, 4, kAnySize | kAnyType), call.host());
     }},
    {"copy_to_host",
     [](Backend& ops, Call& call) {
       ops.copy_to_host(call.host(), call.matrix("x", 3, 4, kAnySize | kAnyType));
     }},
    {"sum", [](Backend& ops,
               Call& call) { ops.sum(call.matrix("x", 3, 4, kDense | kAnySize | kAnyFloat)); }},
    {"adamw_step",
     [](Backend& ops, Call& call) {
       ops.adamw_step(call.fp32_vector("param", 9), call.fp32_vector("exp_avg", 9),
                      call.fp32_vector("exp_avg_sq", 9), call.bf16_vector("copy", 9, kOptional),
                      call.fp32_vector("grad", 9), AdamWStep());
     }},
    {"gradient_statistics",
     [](Backend& ops, Call& call) {
       ops.gradient_statistics(call.fp32_vector("grad", 9, kAnySize));
     }},
};

}  // namespace facet::contract_test
