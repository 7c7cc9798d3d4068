#include "nn/linear.h"

#include <array>
#include <cmath>
#include <span>

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

// Not a vector: steps allocate nothing.
class PackedLinear::LoraParts {
 public:
  void add(const LoraPart& part) { parts_[count_++] = part; }
  bool empty() const { return count_ == 0; }
  std::span<const LoraPart> all() const { return {parts_.data(), count_}; }
  // Those in the columns [begin, begin + count), counted from there.
  LoraParts of_columns(int64_t begin, int64_t count) const {
    LoraParts some;
    for (LoraPart part : all()) {
      part.begin -= begin;
      if (part.begin >= 0 && part.begin < count) some.add(part);
    }
    return some;
  }

 private:
  std::array<LoraPart, kMostParts> parts_;
  size_t count_ = 0;
};

PackedLinear::PackedLinear(ParamTable& table, const std::string& root,
                           const std::vector<PartSpec>& parts, int64_t inputs, Bias bias,
                           const LoraConfig& lora, Init weight_init, Init bias_init)
    : inputs_(inputs) {
  ASSERT(parts.size() <= kMostParts, "{} linear layers in one", parts.size());
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
  const Arena::Mark mark = ctx.arena.mark();
  LoraParts lora;
  for (const Part& part : parts_)
    if (part.right != nullptr)
      lora.add({.begin = part.begin,
                .u = ctx.activation({x.rows(), part.right->value.cols()}),
                .right = part.right->value,
                .left = part.left->value});
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    const Tensor y_run = y.column_block(run.begin, run.outputs);
    const Tensor added =
        residual.defined() ? residual.column_block(run.begin, run.outputs) : Tensor();
    const LoraParts some = lora.of_columns(run.begin, run.outputs);
    if (some.empty() || ctx.decoding) {
      ctx.linear_forward(y_run, x, run.weight, run.bias, added);
      for (const LoraPart& part : some.all())
        ctx.ops.lora_forward_accumulate(y_run.column_block(part.begin, part.left.cols()), part.u, x,
                                        part.right, part.left, lora_scale_);
    } else
      ctx.ops.lora_linear_forward(y_run, x, run.weight, run.bias, added, some.all(), lora_scale_);
    first = run.last;
  }
  if (saved == nullptr) return ctx.arena.release(mark);
  saved->u.clear();
  for (const LoraPart& part : lora.all()) saved->u.push_back(part.u);
}

void PackedLinear::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                            Dx mode) const {
  ArenaScope scope(ctx.arena);
  const LoraParts lora = backward_parts(ctx, dx, x, saved);
  const bool overwrite = mode == Dx::kOverwrite;
  const bool together = overwrite && !lora.empty() && run_from(0).last == parts_.size();
  if (together)
    ctx.ops.lora_linear_backward(dx, dy, x, run_from(0).weight, lora.all(), lora_scale_);
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    const Tensor dy_run = dy.column_block(run.begin, run.outputs);
    const bool begins = first == 0 && overwrite;
    if (dx.defined() && begins && !together) ctx.ops.linear_backward_input(dx, dy_run, run.weight);
    if (dx.defined() && !begins) ctx.ops.linear_backward_input_accumulate(dx, dy_run, run.weight);
    if (run.dweight.defined() || run.dbias.defined())
      ctx.ops.linear_backward_weight(run.dweight, run.dbias, dy_run, x);
    first = run.last;
  }
  if (together) return;
  for (const LoraPart& part : lora.all())
    ctx.ops.lora_backward_accumulate(dx, part.dright, part.dleft, part.du,
                                     dy.column_block(part.begin, part.left.cols()), x, part.u,
                                     part.right, part.left, lora_scale_);
}

PackedLinear::LoraParts PackedLinear::backward_parts(Context& ctx, const Tensor& dx,
                                                     const Tensor& x, const Saved& saved) const {
  LoraParts lora;
  size_t next_u = 0;
  for (const Part& part : parts_) {
    if (part.right == nullptr) continue;
    ASSERT(next_u < saved.u.size(), "backward without a forward that saved");
    const Tensor u = saved.u[next_u++];
    if (!dx.defined() && !part.right->grad.defined() && !part.left->grad.defined()) continue;
    lora.add({.begin = part.begin,
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
