// Products, norms, activations, attention and the loss: what each demands, and its count. The other
// operators are in ops_rows.cpp.
#include "ops/ops.h"

#include "base/check.h"
#include "base/checked_math.h"
#include "ops/operator_checks.h"

namespace facet {

// ---- counts

namespace {

// (query, key) pairs that have a score; a row that only adds its own value has none.
int64_t visible_pairs(const AttentionPlan& plan) {
  int64_t pairs = 0;
  for (const int32_t visible : plan.visible_keys) pairs += visible;
  for (const int32_t hidden : plan.hidden_keys) pairs -= hidden;
  return pairs;
}

// Multiply-adds a row.
int64_t lora_forward_work(const Tensor& right, const Tensor& left) {
  return right.numel() + left.numel();
}

// du and dleft cost as much as the left product, dright and dx as the right one.
int64_t lora_backward_work(const Tensor& right, const Tensor& left, const Tensor& dx,
                           const Tensor& dright, const Tensor& dleft) {
  const int64_t left_products = dleft.defined() ? 2 : 1;
  const int64_t right_products = (dx.defined() ? 1 : 0) + (dright.defined() ? 1 : 0);
  return left_products * left.numel() + right_products * right.numel();
}

}  // namespace

void Backend::count_products(int64_t rows, int64_t work) {
  ++counts_.calls;
  add_saturated(counts_.matmul_flops, {2, rows, work});
}

void Backend::count_attention_forward(const AttentionPlan& plan, const Tensor& q, int64_t heads) {
  ++counts_.calls;
  add_saturated(counts_.attention_flops, {4, q.cols() / heads, heads, visible_pairs(plan)});
  counts_.attention_query_rows += q.rows();
}

void Backend::count_attention_backward(const AttentionPlan& plan, const Tensor& q, int64_t heads) {
  ++counts_.calls;
  add_saturated(counts_.attention_flops, {10, q.cols() / heads, heads, visible_pairs(plan)});
}

// ---- linear

namespace {

// y (N,O), x (N,I), weight (O,I), whichever way the product goes.
void check_sizes(const OperatorChecks& check, const Tensor& y, const Tensor& x,
                 const Tensor& weight) {
  check.matrix("weight", weight, y.cols(), x.cols());
  ASSERT(y.rows() == x.rows(), "{}: {} and {} do not have the same number of rows", check.name(),
         y.shape_string(), x.shape_string());
}

void check_product(const OperatorChecks& check, const Tensor& y, const Tensor& x,
                   const Tensor& weight) {
  check.given({y, x, weight});
  check.activations({y, x, weight});
  check_sizes(check, y, x, weight);
}

}  // namespace

void Backend::linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual) {
  const OperatorChecks check(__func__);
  check_product(check, y, x, weight);
  check.activations({y, bias, residual});
  check.vector("bias", bias, y.cols());
  check.like("residual", residual, y);
  count_products(x.rows(), weight.numel());
  do_linear_forward(y, x, weight, bias, residual);
}

void Backend::linear_few_rows_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                      Tensor residual) {
  const OperatorChecks check(__func__);
  check.given({y, x, weight});
  check.activations({y, x, bias, residual});
  check.same_or_narrower(weight, y);
  check_sizes(check, y, x, weight);
  check.vector("bias", bias, y.cols());
  check.like("residual", residual, y);
  ASSERT(x.rows() <= kFewRows, "{}: {} rows, at most {}", check.name(), x.rows(), kFewRows);
  count_products(x.rows(), weight.numel());
  do_linear_few_rows_forward(y, x, weight, bias, residual);
}

void Backend::linear_backward_input(Tensor dx, Tensor dy, Tensor weight) {
  check_product(OperatorChecks(__func__), dy, dx, weight);
  count_products(dy.rows(), weight.numel());
  do_linear_backward_input(dx, dy, weight);
}

void Backend::linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) {
  check_product(OperatorChecks(__func__), dy, dx, weight);
  count_products(dy.rows(), weight.numel());
  do_linear_backward_input_accumulate(dx, dy, weight);
}

void Backend::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) {
  const OperatorChecks check(__func__);
  check.given({dy, x});
  check.floats({dy, x});
  if (dweight.defined()) check.one_type(dy, x);  // without it, x is not read
  check.matrix("x", x, dy.rows(), x.cols());
  check.fp32({dweight});
  check.matrix("dweight", dweight, dy.cols(), x.cols());
  check.fp32_vector("dbias", dbias, dy.cols());
  count_products(dy.rows(), dweight.defined() ? dweight.numel() : 0);
  do_linear_backward_weight(dweight, dbias, dy, x);
}

// ---- LoRA

namespace {

// y (N,O), u (N,r), x (N,I), right (I,r), left (r,O)
void check_lora(const OperatorChecks& check, const Tensor& y, const Tensor& u, const Tensor& x,
                const Tensor& right, const Tensor& left) {
  check.given({y, u, x, right, left});
  check.activations({y, u, x, right, left});
  const int64_t rank = right.cols();
  check.matrix("x", x, y.rows(), x.cols());
  check.matrix("u", u, y.rows(), rank);
  check.matrix("right", right, x.cols(), rank);
  check.matrix("left", left, rank, y.cols());
  check.dense("right", right);
  check.dense("left", left);
}

}  // namespace

void Backend::lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                                      float scale) {
  check_lora(OperatorChecks(__func__), y, u, x, right, left);
  count_products(x.rows(), lora_forward_work(right, left));
  do_lora_forward_accumulate(y, u, x, right, left, scale);
}

void Backend::lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du, Tensor dy,
                                       Tensor x, Tensor u, Tensor right, Tensor left, float scale) {
  const OperatorChecks check(__func__);
  check_lora(check, dy, u, x, right, left);
  check.given({du});
  check.activations({dy, dx});
  check.like("dx", dx, x);
  check.fp32({du, dright, dleft});
  check.like("du", du, u);
  check.like("dright", dright, right);
  check.like("dleft", dleft, left);
  count_products(x.rows(), lora_backward_work(right, left, dx, dright, dleft));
  do_lora_backward_accumulate(dx, dright, dleft, du, dy, x, u, right, left, scale);
}

// ---- both

namespace {

// The parts, of columns of y (N,O) that follow one another.
void check_parts(const OperatorChecks& check, const Tensor& y, const Tensor& x,
                 std::span<const LoraPart> parts) {
  ASSERT(!parts.empty(), "{}: no parts", check.name());
  int64_t end = 0;
  for (const LoraPart& part : parts) {
    check.given({part.u, part.right, part.left});
    const int64_t outputs = part.left.cols();
    ASSERT(part.begin >= end && part.begin + outputs <= y.cols(),
           "{}: left {} at column {} of {}, behind column {}", check.name(),
           part.left.shape_string(), part.begin, y.shape_string(), end);
    end = part.begin + outputs;
    ASSERT(part.right.cols() == parts[0].right.cols(), "{}: parts of ranks {} and {}", check.name(),
           parts[0].right.cols(), part.right.cols());
    ASSERT(part.has_u == parts[0].has_u, "{}: u of some parts alone", check.name());
    check_lora(check, y.column_block(part.begin, outputs), part.u, x, part.right, part.left);
  }
}

// u (N,r) and right (I,r) of an operator's output (N,I). Returns multiply-adds a row.
int64_t check_downs(const OperatorChecks& check, const Tensor& output,
                    std::span<const LoraDown> downs) {
  int64_t work = 0;
  for (const auto& [u, right] : downs) {
    check.given({u, right});
    check.activations({output, u, right});
    check.matrix("right", right, output.cols(), right.cols());
    check.dense("right", right);
    check.matrix("u", u, output.rows(), right.cols());
    work += right.numel();
  }
  return work;
}

}  // namespace

void Backend::lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual,
                                  std::span<const LoraPart> parts, float scale) {
  const OperatorChecks check(__func__);
  check_product(check, y, x, weight);
  check.activations({y, bias, residual});
  check.vector("bias", bias, y.cols());
  check.like("residual", residual, y);
  check_parts(check, y, x, parts);
  int64_t work = weight.numel();
  for (const LoraPart& part : parts)
    work += part.has_u ? part.left.numel() : lora_forward_work(part.right, part.left);
  count_products(x.rows(), work);
  do_lora_linear_forward(y, x, weight, bias, residual, parts, scale);
}

void Backend::lora_linear_backward(Tensor dx, Tensor dy, Tensor x, Tensor weight,
                                   std::span<const LoraPart> parts, float scale) {
  const OperatorChecks check(__func__);
  check_product(check, dy, x, weight);
  check.activations({dy, dx});
  check.like("dx", dx, x);
  check_parts(check, dy, x, parts);
  int64_t work = dx.defined() ? weight.numel() : 0;
  for (const LoraPart& part : parts) {
    check.given({part.du});
    check.fp32({part.du, part.dright, part.dleft});
    check.like("du", part.du, part.u);
    check.like("dright", part.dright, part.right);
    check.like("dleft", part.dleft, part.left);
    work += lora_backward_work(part.right, part.left, dx, part.dright, part.dleft);
  }
  count_products(dy.rows(), work);
  do_lora_linear_backward(dx, dy, x, weight, parts, scale);
}

// ---- DoRA

void Backend::dora_row_norms(Tensor norm, Tensor weight, Tensor right, Tensor left, float scale) {
  const OperatorChecks check(__func__);
  check.given({norm, weight, right, left});
  check.activations({weight, right, left});
  check.fp32_vector("norm", norm, weight.rows());
  check.matrix("right", right, weight.cols(), right.cols());
  check.matrix("left", left, right.cols(), weight.rows());
  count_products(right.cols(), weight.numel());
  do_dora_row_norms(norm, weight, right, left, scale);
}

namespace {

// z (N,O) and the vectors of its columns.
void check_dora(const OperatorChecks& check, const Tensor& y, const Tensor& z,
                const Tensor& magnitude, const Tensor& norm) {
  check.given({y, z, magnitude, norm});
  check.activations({y, z, magnitude});
  check.like("z", z, y);
  check.vector("magnitude", magnitude, y.cols());
  check.fp32_vector("norm", norm, y.cols());
}

}  // namespace

void Backend::dora_forward(Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,
                           Tensor residual) {
  const OperatorChecks check(__func__);
  check_dora(check, y, z, magnitude, norm);
  check.activations({y, bias, residual});
  check.vector("bias", bias, y.cols());
  check.like("residual", residual, y);
  count_call();
  do_dora_forward(y, z, magnitude, norm, bias, residual);
}

void Backend::dora_backward(Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z, Tensor magnitude,
                            Tensor norm) {
  const OperatorChecks check(__func__);
  check_dora(check, dy, z, magnitude, norm);
  check.given({dz});
  check.activations({dz, dy});
  check.like("dz", dz, dy);
  check.fp32_vector("dmagnitude", dmagnitude, dy.cols());
  count_call();
  do_dora_backward(dz, dmagnitude, dy, z, magnitude, norm);
}

// ---- norms

void Backend::rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,
                               std::span<const LoraDown> downs) {
  const OperatorChecks check(__func__);
  check.given({y, rstd, x, weight});
  check.activations({y, x, weight});
  check.like("y", y, x);
  check.fp32_vector("rstd", rstd, x.rows());
  check.vector("weight", weight, x.cols());
  count_products(y.rows(), check_downs(check, y, downs));
  do_rms_norm_forward(y, rstd, x, weight, eps, downs);
}

void Backend::rms_norm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight,
                                Tensor rstd, Tensor dresidual) {
  const OperatorChecks check(__func__);
  check.given({dx, dy, x, weight, rstd});
  check.activations({dx, dy, x, weight, dresidual});
  check.like("dx", dx, x);
  check.like("dy", dy, x);
  check.like("dresidual", dresidual, x);
  check.vector("weight", weight, x.cols());
  check.fp32_vector("dweight", dweight, x.cols());
  check.fp32_vector("rstd", rstd, x.rows());
  count_call();
  do_rms_norm_backward(dx, dweight, dy, x, weight, rstd, dresidual);
}

void Backend::layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                                 Tensor bias, float eps) {
  const OperatorChecks check(__func__);
  check.given({y, mean, rstd, x, weight, bias});
  check.activations({y, x, weight, bias});
  check.like("y", y, x);
  check.fp32_vector("mean", mean, x.rows());
  check.fp32_vector("rstd", rstd, x.rows());
  check.vector("weight", weight, x.cols());
  check.vector("bias", bias, x.cols());
  count_call();
  do_layer_norm_forward(y, mean, rstd, x, weight, bias, eps);
}

void Backend::layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                                  Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual) {
  const OperatorChecks check(__func__);
  check.given({dx, dy, x, weight, mean, rstd});
  check.activations({dx, dy, x, weight, dresidual});
  check.like("dx", dx, x);
  check.like("dy", dy, x);
  check.like("dresidual", dresidual, x);
  check.vector("weight", weight, x.cols());
  check.fp32_vector("dweight", dweight, x.cols());
  check.fp32_vector("dbias", dbias, x.cols());
  check.fp32_vector("mean", mean, x.rows());
  check.fp32_vector("rstd", rstd, x.rows());
  count_call();
  do_layer_norm_backward(dx, dweight, dbias, dy, x, weight, mean, rstd, dresidual);
}

// ---- token-wise activations

void Backend::swiglu_forward(Tensor act, Tensor gate_up, std::span<const LoraDown> downs) {
  const OperatorChecks check(__func__);
  check.given({act, gate_up});
  check.activations({act, gate_up});
  check.matrix("gate_up", gate_up, act.rows(), 2 * act.cols());
  count_products(act.rows(), check_downs(check, act, downs));
  do_swiglu_forward(act, gate_up, downs);
}

void Backend::swiglu_backward(Tensor dgate_up, Tensor dact, Tensor gate_up) {
  const OperatorChecks check(__func__);
  check.given({dgate_up, dact, gate_up});
  check.activations({dgate_up, dact, gate_up});
  check.matrix("gate_up", gate_up, dact.rows(), 2 * dact.cols());
  check.like("dgate_up", dgate_up, gate_up);
  count_call();
  do_swiglu_backward(dgate_up, dact, gate_up);
}

void Backend::gelu_forward(Tensor y, Tensor x, Activation activation) {
  const OperatorChecks check(__func__);
  check.given({y, x});
  check.activations({y, x});
  check.like("y", y, x);
  count_call();
  do_gelu_forward(y, x, activation);
}

void Backend::gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  const OperatorChecks check(__func__);
  check.given({dx, dy, x});
  check.activations({dx, dy, x});
  check.like("dx", dx, x);
  check.like("dy", dy, x);
  count_call();
  do_gelu_backward(dx, dy, x, activation);
}

// ---- rotary embedding

namespace {

void check_rope(const OperatorChecks& check, const Tensor& x, const Tensor& cos, const Tensor& sin,
                int64_t heads) {
  check.given({x, cos, sin});
  check.activations({x});
  check.fp32({cos, sin});
  check.like("sin", sin, cos);
  ASSERT(heads > 0 && heads * 2 * cos.cols() == x.cols() && cos.rows() == x.rows(),
         "{}: {} heads in {} turned by {}", check.name(), heads, x.shape_string(),
         cos.shape_string());
}

}  // namespace

void Backend::rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) {
  check_rope(OperatorChecks(__func__), x, cos, sin, heads);
  count_call();
  do_rope_forward(x, cos, sin, heads);
}

void Backend::rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) {
  check_rope(OperatorChecks(__func__), dx, cos, sin, heads);
  count_call();
  do_rope_backward(dx, cos, sin, heads);
}

// ---- attention

namespace {

void check_heads(const OperatorChecks& check, const Tensor& q, const Tensor& k, const Tensor& v,
                 int64_t heads, int64_t kv_heads, float scale) {
  check.given({q, k, v});
  ASSERT(kv_heads > 0 && heads > 0 && heads % kv_heads == 0, "{}: {} heads over {} key/value heads",
         check.name(), heads, kv_heads);
  ASSERT(q.cols() % heads == 0, "{}: q {} has no {} heads", check.name(), q.shape_string(), heads);
  check.matrix("k", k, k.rows(), kv_heads * (q.cols() / heads));
  check.like("v", v, k);
  ASSERT(scale > 0, "{}: scale {} is not positive", check.name(), scale);
}

void check_plan(const OperatorChecks& check, const AttentionPlan& plan, const Tensor& q,
                const Tensor& k, const Tensor& out_part, const Tensor& lse, int64_t heads) {
  ASSERT(out_part.defined() == (plan.num_slots == 2), "{}: out_part {} with {} slots", check.name(),
         out_part.defined() ? "given" : "absent", plan.num_slots);
  int64_t query_rows = 0, key_rows = 0;
  for (const AttentionSample& sample : plan.samples) {
    query_rows += sample.num_query_rows;
    key_rows += sample.num_key_rows;
  }
  key_rows += plan.pool_rows;
  ASSERT(query_rows == q.rows() && key_rows == k.rows(),
         "{}: the plan has {} query and {} key rows, q {} and k {}", check.name(), query_rows,
         key_rows, q.shape_string(), k.shape_string());
  check.given({lse});
  check.fp32_vector("lse", lse, plan.num_statistics() * heads * q.rows());
}

}  // namespace

void Backend::attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,
                                Tensor v, const AttentionPlan& plan, int64_t heads,
                                int64_t kv_heads, float scale) {
  const OperatorChecks check(__func__);
  check_heads(check, q, k, v, heads, kv_heads, scale);
  check_plan(check, plan, q, k, out_part, lse, heads);
  check.given({out});
  check.activations({out, out_part, q});
  check.same_or_narrower(k, q);
  check.one_type(k, v);
  check.like("out", out, q);
  check.like("out_part", out_part, q);
  count_attention_forward(plan, q, heads);
  do_attention_forward(out, lse, out_part, q, k, v, plan, heads, kv_heads, scale);
}

void Backend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                                 Tensor v, Tensor out, Tensor out_part, Tensor lse,
                                 const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                                 float scale) {
  const OperatorChecks check(__func__);
  check_heads(check, q, k, v, heads, kv_heads, scale);
  check_plan(check, plan, q, k, out_part, lse, heads);
  check.given({dq, dk, dv, dout, out});
  check.activations({dq, dk, dv, dout, q, k, v, out, out_part});
  check.like("dq", dq, q);
  check.like("dk", dk, k);
  check.like("dv", dv, v);
  check.like("dout", dout, q);
  check.like("out", out, q);
  check.like("out_part", out_part, q);
  ASSERT(plan.pool_rows == 0, "{}: samples may share the plan's key rows", check.name());
  count_attention_backward(plan, q, heads);
  do_attention_backward(dq, dk, dv, dout, q, k, v, out, out_part, lse, plan, heads, kv_heads,
                        scale);
}

// ---- loss

namespace {

void check_loss(const OperatorChecks& check, const Tensor& row_loss, const Tensor& logits,
                const Tensor& labels) {
  check.given({row_loss, logits, labels});
  check.activations({logits});
  check.fp32_vector("row_loss", row_loss, logits.rows());
  check.int32_vector("labels", labels, logits.rows());
}

}  // namespace

void Backend::cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) {
  check_loss(OperatorChecks(__func__), row_loss, logits, labels);
  count_call();
  do_cross_entropy_forward(row_loss, logits, labels);
}

void Backend::cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                             float gradient_scale) {
  check_loss(OperatorChecks(__func__), row_loss, logits, labels);
  count_call();
  do_cross_entropy_forward_backward(row_loss, logits, labels, gradient_scale);
}

}  // namespace facet
