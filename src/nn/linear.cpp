#include "nn/linear.h"

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
    lora_scale_ = lora.alpha / static_cast<float>(lora.rank);
    parts_[i].right =
        table.add(root + parts[i].path + ".lora_right_weight", {inputs, lora.rank},
                  ParamRole::kLora, Init::kUniformFanIn, lora.compat_init ? lora.rank : inputs);
    parts_[i].left = table.add(root + parts[i].path + ".lora_left_weight",
                               {lora.rank, parts[i].outputs}, ParamRole::kLora, Init::kZero);
  }
}

PackedLinear PackedLinear::part(size_t first, size_t last) const {
  ASSERT(first < last && last <= parts_.size(), "linears {} to {} of {}", first, last,
         parts_.size());
  PackedLinear some;
  some.inputs_ = inputs_;
  some.lora_scale_ = lora_scale_;
  for (size_t i = first; i < last; ++i) {
    Part& part = some.parts_.emplace_back(parts_[i]);
    part.begin = some.outputs_;
    some.outputs_ += part.outputs;
  }
  return some;
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
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    const Tensor added =
        residual.defined() ? residual.column_block(run.begin, run.outputs) : Tensor();
    ctx.ops.linear_forward(y.column_block(run.begin, run.outputs), x, run.weight, run.bias, added);
    first = run.last;
  }
  if (saved != nullptr) saved->u.clear();
  for (const Part& part : parts_) {
    if (part.right == nullptr) continue;
    const Arena::Mark mark = ctx.arena.mark();
    const Tensor u = ctx.activation({x.rows(), part.right->value.cols()});
    ctx.ops.lora_forward_accumulate(y.column_block(part.begin, part.outputs), u, x,
                                    part.right->value, part.left->value, lora_scale_);
    if (saved != nullptr)
      saved->u.push_back(u);
    else
      ctx.arena.release(mark);
  }
}

void PackedLinear::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                            Dx mode) const {
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    const Tensor dy_run = dy.column_block(run.begin, run.outputs);
    const bool overwrite = first == 0 && mode == Dx::kOverwrite;
    if (dx.defined() && overwrite) ctx.ops.linear_backward_input(dx, dy_run, run.weight);
    if (dx.defined() && !overwrite)
      ctx.ops.linear_backward_input_accumulate(dx, dy_run, run.weight);
    if (run.dweight.defined() || run.dbias.defined())
      ctx.ops.linear_backward_weight(run.dweight, run.dbias, dy_run, x);
    first = run.last;
  }
  size_t next_u = 0;
  for (const Part& part : parts_) {
    if (part.right == nullptr) continue;
    ASSERT(next_u < saved.u.size(), "backward without a forward that saved");
    const Tensor u = saved.u[next_u++];
    const Tensor dright = part.right->grad, dleft = part.left->grad;
    if (!dx.defined() && !dright.defined() && !dleft.defined()) continue;
    ArenaScope scope(ctx.arena);
    const Tensor du = ctx.arena.tensor({x.rows(), u.cols()});
    ctx.ops.lora_backward_accumulate(dx, dright, dleft, du,
                                     dy.column_block(part.begin, part.outputs), x, u,
                                     part.right->value, part.left->value, lora_scale_);
  }
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
