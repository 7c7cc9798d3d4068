#include "nn/linear.h"

#include <algorithm>
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

// Those in the columns [begin, begin + count).
RotatedHeads of_columns(const RotatedHeads& rotated, int64_t begin, int64_t count) {
  if (!rotated.by.defined()) return {};
  const int64_t width = rotated.by.width();
  const int64_t columns = std::min(rotated.count * width - begin, count);
  return columns > 0 ? RotatedHeads{rotated.by, columns / width} : RotatedHeads();
}

void turn(Context& ctx, const Tensor& y, const RotatedHeads& rotated) {
  const Rotation& by = rotated.by;
  if (by.defined())
    ctx.ops.rope_forward(y.column_block(0, rotated.count * by.width()), by.cos, by.sin,
                         rotated.count);
}

}  // namespace

float LoraConfig::scale_of(const std::string& module_path) const {
  const Own size = of(module_path);
  if (!rank_stabilised) return size.alpha / static_cast<float>(size.rank);
  return static_cast<float>(static_cast<double>(size.alpha) /
                            std::sqrt(static_cast<double>(size.rank)));
}

// Not a vector: steps allocate nothing.
class PackedLinear::LoraParts {
 public:
  void add(const LoraPart& part, float scale) {
    scales_[count_] = scale;
    parts_[count_++] = part;
  }
  bool empty() const { return count_ == 0; }
  std::span<const LoraPart> all() const { return {parts_.data(), count_}; }
  float scale(size_t i) const { return scales_[i]; }
  float scale() const { return scales_[0]; }  // of all, if they are of one run
  // Those in the columns [begin, begin + count), counted from there.
  LoraParts of_columns(int64_t begin, int64_t count) const {
    LoraParts some;
    for (size_t i = 0; i < count_; ++i) {
      LoraPart part = parts_[i];
      part.begin -= begin;
      if (part.begin >= 0 && part.begin < count) some.add(part, scales_[i]);
    }
    return some;
  }

 private:
  std::array<LoraPart, LoraDowns::kMost> parts_;
  std::array<float, LoraDowns::kMost> scales_ = {};
  size_t count_ = 0;
};

PackedLinear::PackedLinear(ParamTable& table, const std::string& root,
                           const std::vector<PartSpec>& parts, Share inputs, Bias bias,
                           const LoraConfig& lora, Init weight_init, Init bias_init)
    : inputs_(inputs) {
  ASSERT(parts.size() <= LoraDowns::kMost, "{} linear layers in one", parts.size());
  ASSERT(!inputs.is_part() || (parts.size() == 1 && !parts[0].outputs.is_part()),
         "{} shares its inputs, and they are joined or share their outputs", parts[0].path);
  for (const PartSpec& spec : parts) {
    Part& part = parts_.emplace_back();
    part.begin = outputs_;
    part.outputs = spec.outputs.count;
    part.weight = table.add(root + spec.path + ".weight", {part.outputs, inputs.count},
                            ParamRole::kWeight, weight_init, inputs.whole,
                            inputs.is_part() ? inputs.along(1) : spec.outputs.along(0));
    outputs_ += part.outputs;
  }
  for (size_t i = 0; bias == Bias::kPresent && i < parts.size(); ++i)
    parts_[i].bias =
        table.add(root + parts[i].path + ".bias", {parts_[i].outputs}, ParamRole::kBias, bias_init,
                  inputs.whole, parts[i].outputs.along(0));
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!lora.applies_to(parts[i].path)) continue;
    const int64_t rank = lora.of(parts[i].path).rank;
    parts_[i].scale = lora.scale_of(parts[i].path);
    parts_[i].right = table.add(root + parts[i].path + ".lora_right_weight", {inputs.count, rank},
                                ParamRole::kLora, Init::kUniformFanIn,
                                lora.compat_init ? rank : inputs.whole, inputs.along(0));
    parts_[i].left =
        table.add(root + parts[i].path + ".lora_left_weight", {rank, parts_[i].outputs},
                  ParamRole::kLora, Init::kZero, 0, parts[i].outputs.along(1));
  }
  for (size_t i = 0; lora.dora && i < parts.size(); ++i) {
    if (parts_[i].right == nullptr) continue;
    parts_[i].magnitude = table.add(root + parts[i].path + ".lora_magnitude_vector",
                                    {parts_[i].outputs}, ParamRole::kLora, Init::kRowNorms);
    parts_[i].magnitude->rows_of = parts_[i].weight;
  }
}

PackedLinear PackedLinear::part(size_t first, size_t last) const {
  ASSERT(first < last && last <= parts_.size(), "linears {} to {} of {}", first, last,
         parts_.size());
  PackedLinear some(inputs_);
  for (size_t i = first; i < last; ++i) {
    Part& part = some.parts_.emplace_back(parts_[i]);
    part.begin = some.outputs_;
    some.outputs_ += part.outputs;
  }
  return some;
}

PackedLinear::Run PackedLinear::run_from(size_t first) const {
  const Part& head = parts_[first];
  const Part* adapted = head.right != nullptr ? &head : nullptr;
  Run run;
  run.first = first;
  run.begin = head.begin;
  run.outputs = head.outputs;
  run.last = first + 1;
  for (; run.last < parts_.size(); ++run.last) {
    const Part &before = parts_[run.last - 1], &part = parts_[run.last];
    if (!adjoins(before.weight, part.weight) || !adjoins(before.bias, part.bias) ||
        !adjoins(before.magnitude, part.magnitude))
      break;
    if (part.right != nullptr) {
      if (adapted != nullptr &&
          (adapted->right->shape[1] != part.right->shape[1] || adapted->scale != part.scale))
        break;
      adapted = &part;
    }
    run.outputs += part.outputs;
  }
  const auto joined = [&](const Tensor& piece) {
    return Tensor(piece.raw(), {run.outputs, inputs_.count}, piece.dtype(), piece.space());
  };
  const auto joined_vector = [&](const Tensor& piece) {
    return Tensor(piece.raw(), {run.outputs}, piece.dtype(), piece.space());
  };
  run.weight = joined(head.weight->value);
  if (head.weight->grad.defined()) run.dweight = joined(head.weight->grad);
  const auto join = [&](const Param* param, Tensor& value, Tensor& grad) {
    if (param == nullptr) return;
    value = joined_vector(param->value);
    if (param->grad.defined()) grad = joined_vector(param->grad);
  };
  join(head.bias, run.bias, run.dbias);
  join(head.magnitude, run.magnitude, run.dmagnitude);
  return run;
}

Tensor PackedLinear::norms_of(Context& ctx, const Tensor& own, const Run& run) const {
  const Tensor norm =
      ctx.norms != nullptr ? ctx.norms->from(*parts_[run.first].magnitude, run.outputs) : own;
  for (size_t i = run.first; i < run.last; ++i) {
    const Part& part = parts_[i];
    if (ctx.norms != nullptr && !ctx.norms->take(*part.magnitude)) continue;
    ctx.ops.dora_row_norms(norm.range(part.begin - run.begin, part.outputs), part.weight->value,
                           part.right->value, part.left->value, part.scale);
  }
  return norm;
}

// `lora`: the parts of those columns.
void PackedLinear::forward_with_lora(Context& ctx, const Tensor& y, const Tensor& x,
                                     const Tensor& weight, const Tensor& bias, const Tensor& added,
                                     const LoraParts& lora, const RotatedHeads& rotated) const {
  if (!ctx.decoding)
    return ctx.ops.lora_linear_forward(y, x, weight, bias, added, lora.all(), lora.scale(),
                                       rotated.by, rotated.count);
  ctx.linear_forward(y, x, weight, bias, added);
  for (const LoraPart& part : lora.all())
    ctx.ops.lora_forward_accumulate(y.column_block(part.begin, part.left.cols()), part.u, x,
                                    part.right, part.left, lora.scale());
  turn(ctx, y, rotated);
}

LoraDowns PackedLinear::room_for_u(Context& ctx, int64_t rows) const {
  LoraDowns downs;
  for (const Part& part : parts_)
    if (part.right != nullptr)
      downs.all[downs.count++] = {ctx.activation({rows, part.right->value.cols()}),
                                  part.right->value};
  return downs;
}

LoraDowns PackedLinear::downs(Context& ctx, int64_t rows) const {
  if (ctx.decoding) return {};
  LoraDowns downs = room_for_u(ctx, rows);
  downs.made = ctx.ops.takes_lora_downs();
  return downs;
}

void PackedLinear::forward(Context& ctx, Tensor y, Tensor x, Tensor residual, Saved* saved,
                           const LoraDowns& downs, const RotatedHeads& rotated) const {
  if (!inputs_.is_part()) return multiply(ctx, y, x, residual, saved, downs, rotated);
  ASSERT(saved == nullptr, "a layer that shares its inputs has no backward");
  ASSERT(!rotated.by.defined(), "a layer that shares its inputs has no heads to turn");
  add_up(ctx, y, x, residual, downs);
}

// The bias belongs to the sum, not to each part of it.
void PackedLinear::add_up(Context& ctx, Tensor y, Tensor x, Tensor residual,
                          const LoraDowns& downs) const {
  ArenaScope scope(ctx.arena);
  const GroupPlace place{inputs_.begin / inputs_.count, inputs_.whole / inputs_.count};
  SharedSum sum(ctx, place, x.rows(), outputs_);
  multiply(ctx, sum.part(), x, Tensor(), nullptr, downs, {});
  sum.add_up(y, residual);
  if (const Param* const bias = parts_[0].bias)
    ctx.ops.add_repeated_rows_forward(y, y, bias->value.view({1, outputs_}));
}

void PackedLinear::multiply(Context& ctx, Tensor y, Tensor x, Tensor residual, Saved* saved,
                            const LoraDowns& given, const RotatedHeads& rotated) const {
  const Arena::Mark mark = ctx.arena.mark();
  const LoraDowns downs = given.count > 0 ? given : room_for_u(ctx, x.rows());
  LoraParts lora;
  size_t next_u = 0;
  for (const Part& part : parts_)
    if (part.right != nullptr)
      lora.add({.begin = part.begin,
                .u = downs.all[next_u++].u,
                .right = part.right->value,
                .left = part.left->value,
                .has_u = downs.made},
               part.scale);
  ASSERT(next_u == downs.count, "{} first products of {} adapters", downs.count, next_u);
  const bool dora = has_dora();
  const Tensor z = dora ? ctx.activation({x.rows(), outputs_}) : Tensor();
  const Tensor norm = dora ? ctx.arena.tensor({outputs_}) : Tensor();
  for (size_t first = 0; first < parts_.size();) {
    Run run = run_from(first);
    if (inputs_.is_part()) run.bias = Tensor();
    const Tensor y_run = y.column_block(run.begin, run.outputs);
    const Tensor added =
        residual.defined() ? residual.column_block(run.begin, run.outputs) : Tensor();
    const LoraParts some = lora.of_columns(run.begin, run.outputs);
    const RotatedHeads turned = of_columns(rotated, run.begin, run.outputs);
    if (some.empty()) {
      ctx.linear_forward(y_run, x, run.weight, run.bias, added);
      turn(ctx, y_run, turned);
    } else if (!run.magnitude.defined()) {
      forward_with_lora(ctx, y_run, x, run.weight, run.bias, added, some, turned);
    } else {
      const Tensor z_run = z.column_block(run.begin, run.outputs);
      forward_with_lora(ctx, z_run, x, run.weight, Tensor(), Tensor(), some, {});
      const Tensor norm_run = norms_of(ctx, norm.range(run.begin, run.outputs), run);
      ctx.ops.dora_forward(y_run, z_run, run.magnitude, norm_run, run.bias, added);
      turn(ctx, y_run, turned);
    }
    first = run.last;
  }
  if (saved == nullptr) return ctx.arena.release(mark);
  saved->z = z;
  saved->norm = ctx.norms == nullptr ? norm : Tensor();  // kept ones are for no backward
  saved->u.clear();
  for (const LoraPart& part : lora.all()) saved->u.push_back(part.u);
}

bool PackedLinear::save(const LoraDowns& downs, Saved& saved) const {
  if (!downs.made || has_dora()) return false;
  saved.u.clear();
  for (const LoraDown& down : downs.of_maker()) saved.u.push_back(down.u);
  return true;
}

void PackedLinear::backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                            Dx mode) const {
  ArenaScope scope(ctx.arena);
  backward_weights(ctx, backward_input(ctx, dx, dy, saved, mode), x, saved);
}

PackedLinear::Halfway PackedLinear::backward_input(Context& ctx, Tensor dx, Tensor dy,
                                                   const Saved& saved, Dx mode) const {
  Halfway halfway{.dy = dy, .dz = before_magnitudes(ctx, dy, saved), .du = {}};
  LoraParts lora;
  if (dx.defined() || trains(&Part::right) || trains(&Part::left)) {
    for (size_t i = 0; i < parts_.size(); ++i)
      if (const Param* const right = parts_[i].right)
        halfway.du[i] = ctx.arena.tensor({dy.rows(), right->value.cols()});
    lora = backward_parts(halfway, saved);
  }
  const bool overwrite = mode == Dx::kOverwrite;
  const bool together = overwrite && !lora.empty() && run_from(0).last == parts_.size();
  if (together) {
    ctx.ops.lora_linear_backward_input(dx, halfway.dz, run_from(0).weight, lora.all(),
                                       lora.scale());
    return halfway;
  }
  for (size_t first = 0; first < parts_.size() && dx.defined();) {
    const Run run = run_from(first);
    const Tensor dz_run = halfway.dz.column_block(run.begin, run.outputs);
    if (first == 0 && overwrite)
      ctx.ops.linear_backward_input(dx, dz_run, run.weight);
    else
      ctx.ops.linear_backward_input_accumulate(dx, dz_run, run.weight);
    first = run.last;
  }
  for (size_t i = 0; i < lora.all().size(); ++i) {
    const LoraPart& part = lora.all()[i];
    ctx.ops.lora_backward_input_accumulate(dx, part.dleft, part.du,
                                           halfway.dz.column_block(part.begin, part.left.cols()),
                                           part.u, part.right, part.left, lora.scale(i));
  }
  return halfway;
}

void PackedLinear::backward_weights(Context& ctx, const Halfway& halfway, Tensor x,
                                    const Saved& saved) const {
  const LoraParts lora = trains(&Part::right) ? backward_parts(halfway, saved) : LoraParts();
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    add_weight_gradients(ctx, run, halfway.dz.column_block(run.begin, run.outputs),
                         halfway.dy.column_block(run.begin, run.outputs), x);
    const LoraParts some = lora.of_columns(run.begin, run.outputs);
    if (!some.empty()) ctx.ops.lora_backward_right(x, some.all());
    first = run.last;
  }
}

// A bias is added behind the magnitudes.
void PackedLinear::add_weight_gradients(Context& ctx, const Run& run, const Tensor& dz,
                                        const Tensor& dy, const Tensor& x) {
  const bool apart = run.magnitude.defined() && run.dbias.defined();
  const Tensor dbias = apart ? Tensor() : run.dbias;
  if (run.dweight.defined() || dbias.defined())
    ctx.ops.linear_backward_weight(run.dweight, dbias, dz, x);
  if (apart) ctx.ops.linear_backward_weight(Tensor(), run.dbias, dy, x);
}

Tensor PackedLinear::before_magnitudes(Context& ctx, const Tensor& dy, const Saved& saved) const {
  if (!has_dora()) return dy;
  ASSERT(saved.z.defined(), "backward without a forward that saved");
  const Tensor dz = ctx.activation({dy.rows(), outputs_});
  for (size_t first = 0; first < parts_.size();) {
    const Run run = run_from(first);
    const Tensor dz_run = dz.column_block(run.begin, run.outputs);
    const Tensor dy_run = dy.column_block(run.begin, run.outputs);
    if (run.magnitude.defined())
      ctx.ops.dora_backward(dz_run, run.dmagnitude, dy_run,
                            saved.z.column_block(run.begin, run.outputs), run.magnitude,
                            saved.norm.range(run.begin, run.outputs));
    else
      ctx.ops.copy(dz_run, dy_run);
    first = run.last;
  }
  return dz;
}

bool PackedLinear::trains(Param* Part::*factor) const {
  return std::ranges::any_of(parts_, [=](const Part& part) {
    return part.*factor != nullptr && (part.*factor)->grad.defined();
  });
}

PackedLinear::LoraParts PackedLinear::backward_parts(const Halfway& halfway,
                                                     const Saved& saved) const {
  LoraParts lora;
  size_t next_u = 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    if (part.right == nullptr) continue;
    ASSERT(next_u < saved.u.size(), "backward without a forward that saved");
    lora.add({.begin = part.begin,
              .u = saved.u[next_u++],
              .right = part.right->value,
              .left = part.left->value,
              .du = halfway.du[i],
              .dright = part.right->grad,
              .dleft = part.left->grad},
             part.scale);
  }
  return lora;
}

bool PackedLinear::has_lora() const {
  for (const Part& part : parts_)
    if (part.right != nullptr) return true;
  return false;
}

bool PackedLinear::has_dora() const {
  for (const Part& part : parts_)
    if (part.magnitude != nullptr) return true;
  return false;
}

bool PackedLinear::any_trained() const {
  for (const Part& part : parts_)
    for (const Param* param : {part.weight, part.bias, part.right, part.left, part.magnitude})
      if (param != nullptr && param->trained) return true;
  return false;
}

}  // namespace facet
