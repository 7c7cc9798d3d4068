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

int64_t elements_of(const Tensor& x) { return x.defined() ? x.numel() : 0; }

// du costs as much as the left product, dx as the right one.
int64_t lora_backward_input_work(const Tensor& right, const Tensor& left, const Tensor& dleft,
                                 const Tensor& dx) {
  return left.numel() + elements_of(dleft) + (dx.defined() ? right.numel() : 0);
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

// right (I,r), left (r,O), for y (N,O)
void check_factors(const OperatorChecks& check, const Tensor& y, const Tensor& right,
                   const Tensor& left) {
  check.given({y, right, left});
  check.activations({y, right, left});
  check.matrix("left", left, right.cols(), y.cols());
  check.dense("right", right);
  check.dense("left", left);
}

// y (N,O), u (N,r), x (N,I), right (I,r), left (r,O)
void check_lora(const OperatorChecks& check, const Tensor& y, const Tensor& u, const Tensor& x,
                const Tensor& right, const Tensor& left) {
  check.given({u, x});
  check_factors(check, y, right, left);
  check.activations({y, u, x});
  check.matrix("x", x, y.rows(), right.rows());
  check.matrix("u", u, y.rows(), right.cols());
}

// Backward but for dx.
void check_left(const OperatorChecks& check, const Tensor& dy, const Tensor& du,
                const Tensor& dleft, const Tensor& u, const Tensor& right, const Tensor& left) {
  check_factors(check, dy, right, left);
  check.given({du});
  if (dleft.defined()) check.given({u});
  check.activations({dy, u});
  check.fp32({du, dleft});
  check.matrix("u", u, dy.rows(), right.cols());
  check.matrix("du", du, dy.rows(), right.cols());
  check.like("dleft", dleft, left);
}

}  // namespace

void Backend::lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                                      float scale) {
  check_lora(OperatorChecks(__func__), y, u, x, right, left);
  count_products(x.rows(), lora_forward_work(right, left));
  do_lora_forward_accumulate(y, u, x, right, left, scale);
}

void Backend::lora_backward_input_accumulate(Tensor dx, Tensor dleft, Tensor du, Tensor dy,
                                             Tensor u, Tensor right, Tensor left, float scale) {
  const OperatorChecks check(__func__);
  check_left(check, dy, du, dleft, u, right, left);
  check.activations({dy, dx});
  check.matrix("dx", dx, dy.rows(), right.rows());
  count_products(dy.rows(), lora_backward_input_work(right, left, dleft, dx));
  do_lora_backward_input_accumulate(dx, dleft, du, dy, u, right, left, scale);
}

void Backend::lora_backward_right(Tensor x, std::span<const LoraPart> parts) {
  const OperatorChecks check(__func__);
  check.given({x});
  int64_t work = 0;
  for (const LoraPart& part : parts) {
    if (!part.dright.defined()) continue;
    check.given({part.right, part.du});
    check.activations({x, part.right});
    check.dense("right", part.right);
    check.matrix("right", part.right, x.cols(), part.right.cols());
    check.matrix("du", part.du, x.rows(), part.right.cols());
    check.fp32({part.du, part.dright});
    check.like("dright", part.dright, part.right);
    work += part.dright.numel();
  }
  count_products(x.rows(), work);
  do_lora_backward_right(x, parts);
}

// ---- both

namespace {

// Calls body(part, its columns of y) for parts whose columns of y (N,O) follow one another.
template <typename Body>
void check_parts(const OperatorChecks& check, const Tensor& y, std::span<const LoraPart> parts,
                 const Body& body) {
  ASSERT(!parts.empty(), "{}: no parts", check.name());
  int64_t end = 0;
  for (const LoraPart& part : parts) {
    check.given({part.right, part.left});
    const int64_t outputs = part.left.cols();
    ASSERT(part.begin >= end && part.begin + outputs <= y.cols(),
           "{}: left {} at column {} of {}, behind column {}", check.name(),
           part.left.shape_string(), part.begin, y.shape_string(), end);
    end = part.begin + outputs;
    ASSERT(part.right.cols() == parts[0].right.cols(), "{}: parts of ranks {} and {}", check.name(),
           parts[0].right.cols(), part.right.cols());
    ASSERT(part.has_u == parts[0].has_u, "{}: u of some parts alone", check.name());
    body(part, y.column_block(part.begin, outputs));
  }
}

// The heads in the first columns of x are turned.
void check_turned_heads(const OperatorChecks& check, const Tensor& x, const Rotation& by,
                        int64_t heads) {
  check.given({x, by.cos, by.sin});
  check.fp32({by.cos, by.sin});
  check.like("sin", by.sin, by.cos);
  ASSERT(heads > 0 && heads * by.width() <= x.cols() && by.cos.rows() == x.rows(),
         "{}: {} heads in {} turned by {}", check.name(), heads, x.shape_string(),
         by.cos.shape_string());
}

bool has_angles(const Rotation& rotation) {
  return rotation.cos.defined() || rotation.sin.defined();
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
                                  std::span<const LoraPart> parts, float scale,
                                  const Rotation& rotation, int64_t rotated_heads) {
  const OperatorChecks check(__func__);
  check_product(check, y, x, weight);
  check.activations({y, bias, residual});
  check.vector("bias", bias, y.cols());
  check.like("residual", residual, y);
  if (has_angles(rotation)) check_turned_heads(check, y, rotation, rotated_heads);
  ASSERT(!rotation.defined() || !residual.defined(), "{}: a rotation and a residual", check.name());
  int64_t work = weight.numel();
  check_parts(check, y, parts, [&](const LoraPart& part, const Tensor& columns) {
    check_lora(check, columns, part.u, x, part.right, part.left);
    work += part.has_u ? part.left.numel() : lora_forward_work(part.right, part.left);
  });
  count_products(x.rows(), work);
  do_lora_linear_forward(y, x, weight, bias, residual, parts, scale, rotation, rotated_heads);
}

void Backend::turn_heads(Tensor y, const Rotation& rotation, int64_t heads) {
  if (!rotation.defined()) return;
  do_rope_forward(y.column_block(0, heads * rotation.width()), rotation.cos, rotation.sin, heads);
}

void Backend::lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                         std::span<const LoraPart> parts, float scale) {
  const OperatorChecks check(__func__);
  check.given({dy, weight});
  check.activations({dy, dx, weight});
  check.matrix("weight", weight, dy.cols(), weight.cols());
  check.matrix("dx", dx, dy.rows(), weight.cols());
  int64_t work = dx.defined() ? weight.numel() : 0;
  check_parts(check, dy, parts, [&](const LoraPart& part, const Tensor& columns) {
    check_left(check, columns, part.du, part.dleft, part.u, part.right, part.left);
    check.matrix("right", part.right, weight.cols(), part.right.cols());
    work += lora_backward_input_work(part.right, part.left, part.dleft, dx);
  });
  count_products(dy.rows(), work);
  do_lora_linear_backward_input(dx, dy, weight, parts, scale);
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

void Backend::rms_norm_backward(Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x,
                                Tensor weight, Tensor rstd, Tensor dresidual) {
  const OperatorChecks check(__func__);
  check.given({dx, dy, x, weight, rstd});
  check.activations({dx, y, dy, x, weight, dresidual});
  check.like("dx", dx, x);
  check.like("y", y, x);
  check.like("dy", dy, x);
  check.like("dresidual", dresidual, x);
  check.vector("weight", weight, x.cols());
  check.fp32_vector("dweight", dweight, x.cols());
  check.fp32_vector("rstd", rstd, x.rows());
  count_call();
  do_rms_norm_backward(dx, dweight, y, dy, x, weight, rstd, dresidual);
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

void Backend::swiglu_backward(Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up) {
  const OperatorChecks check(__func__);
  check.given({dgate_up, dact, gate_up});
  check.activations({dgate_up, act, dact, gate_up});
  check.like("act", act, dact);
  check.matrix("gate_up", gate_up, dact.rows(), 2 * dact.cols());
  check.like("dgate_up", dgate_up, gate_up);
  count_call();
  do_swiglu_backward(dgate_up, act, dact, gate_up);
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

// All of x is heads.
void check_rope(const OperatorChecks& check, const Tensor& x, const Rotation& by, int64_t heads) {
  check_turned_heads(check, x, by, heads);
  check.activations({x});
  ASSERT(heads * by.width() == x.cols(), "{}: {} heads in {} turned by {}", check.name(), heads,
         x.shape_string(), by.cos.shape_string());
}

// Of an operator that turns the heads of x, if there are angles.
void check_rotation(const OperatorChecks& check, const Tensor& x, const Rotation& rotation,
                    int64_t heads) {
  if (has_angles(rotation)) check_rope(check, x, rotation, heads);
}

}  // namespace

void Backend::rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) {
  check_rope(OperatorChecks(__func__), x, {cos, sin}, heads);
  count_call();
  do_rope_forward(x, cos, sin, heads);
}

void Backend::rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) {
  check_rope(OperatorChecks(__func__), dx, {cos, sin}, heads);
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
                                 const Rotation& q_rotation, const Rotation& k_rotation,
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
  check_rotation(check, dq, q_rotation, heads);
  check_rotation(check, dk, k_rotation, kv_heads);
  ASSERT(plan.pool_rows == 0, "{}: samples may share the plan's key rows", check.name());
  count_attention_backward(plan, q, heads);
  do_attention_backward(dq, dk, dv, dout, q, k, v, out, out_part, lse, q_rotation, k_rotation, plan,
                        heads, kv_heads, scale);
}

void Backend::turn_back(Tensor dq, Tensor dk, const Rotation& q_rotation,
                        const Rotation& k_rotation, int64_t heads, int64_t kv_heads) {
  if (q_rotation.defined()) do_rope_backward(dq, q_rotation.cos, q_rotation.sin, heads);
  if (k_rotation.defined()) do_rope_backward(dk, k_rotation.cos, k_rotation.sin, kv_heads);
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
