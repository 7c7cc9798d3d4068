#include "tests/bench/gpu/measuring_backend.h"

#include <algorithm>
#include <vector>

namespace facet::bench {
namespace {

std::string shapes_of(const std::vector<Tensor>& operands) {
  std::string text;
  for (const Tensor& x : operands) {
    if (!text.empty()) text += ' ';
    text += x.defined() ? x.shape_string() : "-";
    if (x.defined() && x.dtype() != DType::kBF16) text += name_of(x.dtype());
  }
  return text;
}

int64_t bytes_of(const std::vector<Tensor>& operands) {
  int64_t bytes = 0;
  for (const Tensor& x : operands)
    if (x.defined()) bytes += x.bytes();
  return bytes;
}

int64_t flops_of(const OpCounts& counts) { return counts.matmul_flops + counts.attention_flops; }

}  // namespace

std::string MeasuringBackend::shapes_of(const Operands& operands) {
  const std::string once = bench::shapes_of(operands.once);
  const std::string twice = bench::shapes_of(operands.twice);
  return twice.empty() ? once : once + "; in place " + twice;
}

template <typename Call>
void MeasuringBackend::pass_on(const char* name, const Operands& operands, const Call& call) {
  if (does_ == Does::kNothing) return call();
  const std::string shapes = shapes_of(operands);
  Kind& kind = kinds_[std::string(name) + " " + shapes];
  if (does_ == Does::kCount) ++kind.calls;
  if (does_ == Does::kCount || kind.milliseconds > 0) return call();
  measure(name, operands, shapes, kind, call);
  Sum& sum = sums_[name];
  sum.calls += kind.calls;
  sum.milliseconds += static_cast<double>(kind.calls) * kind.milliseconds;
}

template <typename Call>
void MeasuringBackend::measure(const char* name, const Operands& operands,
                               const std::string& shapes, Kind& kind, const Call& call) {
  const int64_t before = flops_of(below_.counts());
  call();
  const auto flops = static_cast<double>(flops_of(below_.counts()) - before);
  const auto bytes = static_cast<double>(bytes_of(operands.once) + 2 * bytes_of(operands.twice));
  kind.milliseconds = milliseconds_of(bench_.clock, bench_.limits, call);
  const double rate = bytes / (kind.milliseconds * 1e-3),
               flop_rate = flops / (kind.milliseconds * 1e-3);
  bench_.report.row("operators",
                    {{"operator", name},
                     {"calls", kind.calls},
                     {"ms", kind.milliseconds},
                     {"ms_a_step", static_cast<double>(kind.calls) * kind.milliseconds},
                     {"GB", bytes * 1e-9},
                     {"GB/s", rate * 1e-9},
                     {"copy_%", percent(rate, bench_.rates.copy)},
                     {"GFLOP", flops * 1e-9},
                     {"TFLOP/s", flop_rate * 1e-12},
                     {"product_%", percent(flop_rate, bench_.rates.product)},
                     {"operands", shapes}});
}

void MeasuringBackend::report_sums() const {
  std::vector<std::pair<std::string, Sum>> sums(sums_.begin(), sums_.end());
  std::stable_sort(sums.begin(), sums.end(), [](const auto& a, const auto& b) {
    return a.second.milliseconds > b.second.milliseconds;
  });
  Sum all;
  for (const auto& [name, sum] : sums) {
    all.calls += sum.calls;
    all.milliseconds += sum.milliseconds;
  }
  sums.emplace_back("all", all);
  for (const auto& [name, sum] : sums)
    bench_.report.row("operators, summed", {{"operator", name},
                                            {"calls", sum.calls},
                                            {"ms_a_step", sum.milliseconds},
                                            {"%", percent(sum.milliseconds, all.milliseconds)}});
}

// ---- the operators

#define FACET_BRACED(...) \
  { __VA_ARGS__ }
// once, twice: operands in parentheses
#define FACET_MEASURED(name, parameters, arguments, once, twice)                             \
  void MeasuringBackend::do_##name parameters {                                              \
    pass_on(#name, {FACET_BRACED once, FACET_BRACED twice}, [&] { below_.name arguments; }); \
  }

FACET_MEASURED(linear_forward, (Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual),
               (y, x, weight, bias, residual), (y, x, weight, bias, residual), ())
FACET_MEASURED(linear_few_rows_forward,
               (Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual),
               (y, x, weight, bias, residual), (y, x, weight, bias, residual), ())
FACET_MEASURED(linear_backward_input, (Tensor dx, Tensor dy, Tensor weight), (dx, dy, weight),
               (dx, dy, weight), ())
FACET_MEASURED(linear_backward_input_accumulate, (Tensor dx, Tensor dy, Tensor weight),
               (dx, dy, weight), (dy, weight), (dx))
FACET_MEASURED(linear_backward_weight, (Tensor dweight, Tensor dbias, Tensor dy, Tensor x),
               (dweight, dbias, dy, x), (dy, x), (dweight, dbias))
FACET_MEASURED(lora_forward_accumulate,
               (Tensor y, Tensor u, Tensor x, Tensor right, Tensor left, float scale),
               (y, u, x, right, left, scale), (u, x, right, left), (y))
FACET_MEASURED(lora_backward_input_accumulate,
               (Tensor dx, Tensor dleft, Tensor du, Tensor dy, Tensor u, Tensor right, Tensor left,
                float scale),
               (dx, dleft, du, dy, u, right, left, scale), (du, dy, u, right, left), (dx, dleft))
void MeasuringBackend::do_lora_backward_right(Tensor x, std::span<const LoraPart> parts) {
  Operands operands{{x}, {}};
  for (const LoraPart& part : parts) {
    operands.once.push_back(part.du);
    operands.twice.push_back(part.dright);
  }
  pass_on("lora_backward_right", operands, [&] { below_.lora_backward_right(x, parts); });
}
MeasuringBackend::Operands MeasuringBackend::with_downs(std::vector<Tensor> once,
                                                        std::span<const LoraDown> downs) {
  for (const auto& [u, right] : downs) once.insert(once.end(), {u, right});
  return {once, {}};
}
void MeasuringBackend::do_lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                              Tensor residual, std::span<const LoraPart> parts,
                                              float scale, const Rotation& rotation,
                                              int64_t rotated_heads) {
  Operands operands{{y, x, weight, bias, residual, rotation.cos, rotation.sin}, {}};
  for (const LoraPart& part : parts)
    operands.once.insert(operands.once.end(), {part.u, part.right, part.left});
  pass_on("lora_linear_forward", operands, [&] {
    below_.lora_linear_forward(y, x, weight, bias, residual, parts, scale, rotation, rotated_heads);
  });
}
void MeasuringBackend::do_lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                                     std::span<const LoraPart> parts, float scale) {
  Operands operands{{dx, dy, weight}, {}};
  for (const LoraPart& part : parts) {
    operands.once.insert(operands.once.end(), {part.u, part.right, part.left, part.du});
    operands.twice.push_back(part.dleft);
  }
  pass_on("lora_linear_backward_input", operands,
          [&] { below_.lora_linear_backward_input(dx, dy, weight, parts, scale); });
}
FACET_MEASURED(dora_row_norms, (Tensor norm, Tensor weight, Tensor right, Tensor left, float scale),
               (norm, weight, right, left, scale), (norm, weight, right, left), ())
FACET_MEASURED(dora_forward,
               (Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias, Tensor residual),
               (y, z, magnitude, norm, bias, residual), (y, z, magnitude, norm, bias, residual), ())
FACET_MEASURED(dora_backward,
               (Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z, Tensor magnitude, Tensor norm),
               (dz, dmagnitude, dy, z, magnitude, norm), (dz, dy, z, magnitude, norm), (dmagnitude))
void MeasuringBackend::do_rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight,
                                           float eps, std::span<const LoraDown> downs) {
  pass_on("rms_norm_forward", with_downs({y, rstd, x, weight}, downs),
          [&] { below_.rms_norm_forward(y, rstd, x, weight, eps, downs); });
}
FACET_MEASURED(rms_norm_backward,
               (Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x, Tensor weight,
                Tensor rstd, Tensor dresidual),
               (dx, dweight, y, dy, x, weight, rstd, dresidual),
               (dx, y, dy, x, weight, rstd, dresidual), (dweight))
FACET_MEASURED(layer_norm_forward,
               (Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight, Tensor bias,
                float eps),
               (y, mean, rstd, x, weight, bias, eps), (y, mean, rstd, x, weight, bias), ())
FACET_MEASURED(layer_norm_backward,
               (Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x, Tensor weight,
                Tensor mean, Tensor rstd, Tensor dresidual),
               (dx, dweight, dbias, dy, x, weight, mean, rstd, dresidual),
               (dx, dy, x, weight, mean, rstd, dresidual), (dweight, dbias))
void MeasuringBackend::do_swiglu_forward(Tensor act, Tensor gate_up,
                                         std::span<const LoraDown> downs) {
  pass_on("swiglu_forward", with_downs({act, gate_up}, downs),
          [&] { below_.swiglu_forward(act, gate_up, downs); });
}
FACET_MEASURED(swiglu_backward, (Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up),
               (dgate_up, act, dact, gate_up), (dgate_up, act, dact, gate_up), ())
FACET_MEASURED(gelu_forward, (Tensor y, Tensor x, Activation activation), (y, x, activation),
               (y, x), ())
FACET_MEASURED(gelu_backward, (Tensor dx, Tensor dy, Tensor x, Activation activation),
               (dx, dy, x, activation), (dx, dy, x), ())
FACET_MEASURED(rope_forward, (Tensor x, Tensor cos, Tensor sin, int64_t heads),
               (x, cos, sin, heads), (cos, sin), (x))
FACET_MEASURED(rope_backward, (Tensor dx, Tensor cos, Tensor sin, int64_t heads),
               (dx, cos, sin, heads), (cos, sin), (dx))
FACET_MEASURED(attention_forward,
               (Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k, Tensor v,
                const AttentionPlan& plan, int64_t heads, int64_t kv_heads, float scale),
               (out, lse, out_part, q, k, v, plan, heads, kv_heads, scale),
               (out, lse, out_part, q, k, v), ())
FACET_MEASURED(attention_backward,
               (Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v,
                Tensor out, Tensor out_part, Tensor lse, const Rotation& q_rotation,
                const Rotation& k_rotation, const AttentionPlan& plan, int64_t heads,
                int64_t kv_heads, float scale),
               (dq, dk, dv, dout, q, k, v, out, out_part, lse, q_rotation, k_rotation, plan, heads,
                kv_heads, scale),
               (dq, dk, dv, dout, q, k, v, out, out_part, lse, q_rotation.cos, q_rotation.sin,
                k_rotation.cos, k_rotation.sin),
               ())
// Of `embed` only the rows that are taken are read: as many bytes as are written, with those of
// `image`.
FACET_MEASURED(splice_forward, (Tensor x, Tensor embed, Tensor image, Tensor source),
               (x, embed, image, source), (source), (x))
// The rows of `dembed` that are added to are left out.
FACET_MEASURED(splice_backward, (Tensor dembed, Tensor dimage, Tensor dx, Tensor source),
               (dembed, dimage, dx, source), (dimage, dx, source), ())
FACET_MEASURED(gather_rows_forward, (Tensor y, Tensor x, Tensor index), (y, x, index), (index), (y))
FACET_MEASURED(gather_rows_backward, (Tensor dx, Tensor dy, Tensor index), (dx, dy, index),
               (dx, dy, index), ())
FACET_MEASURED(repeat_rows_forward, (Tensor y, Tensor x, int64_t copies), (y, x, copies), (y, x),
               ())
FACET_MEASURED(repeat_rows_backward, (Tensor dx, Tensor dy, int64_t copies), (dx, dy, copies),
               (dx, dy), ())
FACET_MEASURED(add_repeated_rows_forward, (Tensor y, Tensor x, Tensor rows), (y, x, rows),
               (y, x, rows), ())
FACET_MEASURED(add_repeated_rows_backward, (Tensor drows, Tensor dy), (drows, dy), (dy), (drows))
FACET_MEASURED(patch_rows_forward, (Tensor patches, Tensor pixels, int64_t patch_size),
               (patches, pixels, patch_size), (patches, pixels), ())
FACET_MEASURED(vision_embed_forward,
               (Tensor x, Tensor patch, Tensor class_embedding, Tensor position),
               (x, patch, class_embedding, position), (x, patch, class_embedding, position), ())
FACET_MEASURED(vision_embed_backward, (Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx),
               (dpatch, dclass, dposition, dx), (dpatch, dx), (dclass, dposition))
FACET_MEASURED(resize_positions_forward, (Tensor out, Tensor in), (out, in), (out, in), ())
FACET_MEASURED(resize_positions_backward_accumulate, (Tensor din, Tensor dout), (din, dout), (dout),
               (din))
FACET_MEASURED(cross_entropy_forward, (Tensor row_loss, Tensor logits, Tensor labels),
               (row_loss, logits, labels), (row_loss, logits, labels), ())
FACET_MEASURED(cross_entropy_forward_backward,
               (Tensor row_loss, Tensor logits, Tensor labels, float gradient_scale),
               (row_loss, logits, labels, gradient_scale), (row_loss, labels), (logits))
FACET_MEASURED(fill, (Tensor x, float value), (x, value), (x), ())
FACET_MEASURED(copy, (Tensor y, Tensor x), (y, x), (y, x), ())
FACET_MEASURED(add_accumulate, (Tensor y, Tensor x), (y, x), (x), (y))
FACET_MEASURED(sum_rows, (Tensor y, Tensor x), (y, x), (y, x), ())
FACET_MEASURED(sum_rows_accumulate, (Tensor y, Tensor x), (y, x), (x), (y))
FACET_MEASURED(copy_from_host, (Tensor y, const void* host), (y, host), (y), ())
FACET_MEASURED(copy_to_host, (void* host, Tensor x), (host, x), (x), ())
FACET_MEASURED(adamw_step,
               (Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy, Tensor grad,
                const AdamWStep& step),
               (param, exp_avg, exp_avg_sq, copy, grad, step), (copy, grad),
               (param, exp_avg, exp_avg_sq))

double MeasuringBackend::do_sum(Tensor x) {
  double sum = 0;
  pass_on("sum", {{x}}, [&] { sum = below_.sum(x); });
  return sum;
}

void MeasuringBackend::do_gradient_statistics(std::span<GradientStatistics> statistics,
                                              std::span<const Tensor> grads) {
  pass_on("gradient_statistics", {std::vector<Tensor>(grads.begin(), grads.end())},
          [&] { below_.gradient_statistics(statistics, grads); });
}

}  // namespace facet::bench
