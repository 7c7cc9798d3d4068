#include "nn/linear.h"

#include <cmath>

#include "base/check.h"

namespace facet {
namespace {

// Does `next` begin in memory where `param` ends, with the same trained flag? (Two buffers may be
// adjacent by chance, so the flag is checked too.)
bool adjoins(const Param* param, const Param* next) {
  if (param == nullptr || next == nullptr) return param == next;
  return param->trained == next->trained &&
         param->value.data<char>() + param->value.bytes() == next->value.raw();
}

}  // namespace

float LoraConfig::scale() const {
  if (!rank_stabilised) return alpha / static_cast<float>(rank);
  return static_cast<float>(static_cast<double>(alpha) / std::sqrt(static_cast<double>(rank)));
}

PackedLinear::PackedLinear(ParamTable& table, const std::string& root,
                           const std::vector<PartSpec>& parts, int64_t inputs, Bias bias,
                           const LoraConfig& lora, Init weight_init, Init bias_init)
    : inputs_(inputs) {
  for (const PartSpec& spec : parts) {
    Part& part = parts_.emplace_back();
    part.begin = outputs_;
    part.outputs = spec.outputs;
    part.weight = table.add(root + spec.path + ".weight", {spec.outputs, inputs},
                            ParamRole::kWeight, weight_init, inputs);
    outputs_ += spec.outputs;
  }
  for (size_t i = 0; bias == Bias::kPresent && i < parts.size(); ++i)
    parts_[i].bias = table.add(root + parts[i].path + ".bias", {parts[i].outputs}, ParamRole::kBias,
                               bias_init, inputs);
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!lora.applies_to(parts[i].path)) continue;
    lora_scale_ = lora.scale();
    parts_[i].right =
        table.add(root + parts[i].path + ".lora_right_weight", {inputs, lora.rank},
                  ParamRole::kLora, Init::kUniformFanIn, lora.compat_init ? lora.rank : inputs);
    parts_[i].left = table.add(root + parts[i].path + ".lora_left_weight",
                               {lora.rank, parts[i].outputs}, ParamRole::kLora, Init::kZero);
  }
}

PackedLinear::Run PackedLinear::run_from(size_t first) const {
  const Part& head = parts_[first];
  Run run;
  run.begin = head.begin;
  run.outputs = head.outputs;
  run.last = first + 1;
  for (; run.last < parts_.size(); ++run.last) {
    const Part &before = parts_[run.last - 1], &part = parts_[run.last];
    if (!adjoins(before.weight, part.weight) || !adjoins(before.bias, part.bias)) break;
    run.outputs += part.outputs;
  }
  const auto joined = [&](const Tensor& piece) {
    return Tensor(piece.raw(), {run.outputs, inputs_}, piece.dtype(), piece.space());
  };
  const auto joined_vector = [&](const Tensor& piece) {
    return Tensor(piece.raw(), {run.outputs}, piece.dtype(), piece.space());
  };
  run.weight = joined(head.weight->value);
  if (head.weight->grad.defined()) run.dweight = joined(head.weight->grad);
  if (head.bias == nullptr) return run;
  run.bias = joined_vector(head.bias->value);
  if (head.bias->grad.defined()) run.dbias = joined_vector(head.bias->grad);
  return run;
}

void PackedLinear::forward(Context& ctx, Tensor y, Tensor x, Tensor residual, Saved* saved) const {
  const Arena::Mark mark = ctx.arena.mark();
  std::vector<LoraPart> lora;
  for (const Part& part : parts_)
    if (part.right != nullptr)
      lora.push_back({.begin = part.begin,
                      .u = ctx.activation({x.rows(), part.right->value.cols()}),
                      .right = part.right->value,
                      .left = part.left->value});
  const Run head = run_from(0);
  if (!lora.empty() && head.last == parts_.size()) {
    ctx.ops.lora_linear_forward(y, x, head.weight, head.bias, residual, lora, lora_scale_);
  } else {
    for (size_t first = 0; first < parts_.size();) {
      const Run run = run_from(first);
      const Tensor added =
          residual.defined() ? residual.column_block(run.begin, run.outputs) : Tensor();
      ctx.ops.linear_forward(y.column_block(run.begin, run.outputs), x, run.weight, run.bias,
                             added);
      first = run.last;
    }
    for (const LoraPart& part : lora)
      ctx.ops.lora_forward_accumulate(y.column_block(part.begin, part.left.cols()), part.u, x,
                                      part.right, part.left, lora_scale_);
  }
  if (saved == nullptr) return ctx.arena.release(mark);
  saved->u.clear();
  for (const LoraPart& part : lora) saved->u.push_back(part.u);
}

void PackedLinear::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x,
                            const Saved& saved) const {
  ArenaScope scope(ctx.arena);
  const std::vector<LoraPart> lora = backward_parts(ctx, dx, x, saved);
  const bool together = !lora.empty() && run_from(0).last == parts_.size();
  if (together) ctx.ops.lora_linear_backward(dx, dy, x, run_from(0).weight, lora, lora_scale_);
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    const Tensor dy_run = dy.column_block(run.begin, run.outputs);
    if (dx.defined() && !together && first == 0)
      ctx.ops.linear_backward_input(dx, dy_run, run.weight);
    if (dx.defined() && first > 0) ctx.ops.linear_backward_input_accumulate(dx, dy_run, run.weight);
    if (run.dweight.defined() || run.dbias.defined())
      ctx.ops.linear_backward_weight(run.dweight, run.dbias, dy_run, x);
    first = run.last;
  }
  if (together) return;
  for (const LoraPart& part : lora)
    ctx.ops.lora_backward_accumulate(dx, part.dright, part.dleft, part.du,
                                     dy.column_block(part.begin, part.left.cols()), x, part.u,
                                     part.right, part.left, lora_scale_);
}

std::vector<LoraPart> PackedLinear::backward_parts(Context& ctx, const Tensor& dx, const Tensor& x,
                                                   const Saved& saved) const {
  std::vector<LoraPart> lora;
  size_t next_u = 0;
  for (const Part& part : parts_) {
    if (part.right == nullptr) continue;
    ASSERT(next_u < saved.u.size(), "backward without a forward that saved");
    const Tensor u = saved.u[next_u++];
    if (!dx.defined() && !part.right->grad.defined() && !part.left->grad.defined()) continue;
    lora.push_back({.begin = part.begin,
                    .u = u,
                    .right = part.right->value,
                    .left = part.left->value,
                    .du = ctx.arena.tensor({x.rows(), u.cols()}),
                    .dright = part.right->grad,
                    .dleft = part.left->grad});
  }
  return lora;
}

bool PackedLinear::has_lora() const {
  for (const Part& part : parts_)
    if (part.right != nullptr) return true;
  return false;
}

bool PackedLinear::any_trained() const {
  for (const Part& part : parts_)
    for (const Param* param : {part.weight, part.bias, part.right, part.left})
      if (param != nullptr && param->trained) return true;
  return false;
}

}  // namespace facet
