// Embeddings, row movement, plain values and the optimizer: what each operator demands, and its
// count.
#include "base/check.h"
#include "ops/operator_checks.h"
#include "ops/ops.h"

namespace facet {

// ---- splice

void Backend::splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) {
  const OperatorChecks check(__func__);
  check.given({x, embed, source});
  check.one_type(x, embed);
  check.one_type(x, image);
  check.as_wide("embed", embed, x);
  check.as_wide("image", image, x);
  check.int32_vector("source", source, x.rows());
  count_call();
  do_splice_forward(x, embed, image, source);
}

void Backend::splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) {
  const OperatorChecks check(__func__);
  check.given({dx, source});
  check.activations({dimage, dx});
  check.fp32({dembed});
  check.as_wide("dembed", dembed, dx);
  check.as_wide("dimage", dimage, dx);
  check.int32_vector("source", source, dx.rows());
  count_call();
  do_splice_backward(dembed, dimage, dx, source);
}

// ---- row movement

void Backend::gather_rows_forward(Tensor y, Tensor x, Tensor index) {
  const OperatorChecks check(__func__);
  check.given({y, x, index});
  check.one_type(y, x);
  check.as_wide("x", x, y);
  check.int32_vector("index", index, y.rows());
  count_call();
  do_gather_rows_forward(y, x, index);
}

void Backend::gather_rows_backward(Tensor dx, Tensor dy, Tensor index) {
  const OperatorChecks check(__func__);
  check.given({dx, dy, index});
  check.one_type(dx, dy);
  check.as_wide("dx", dx, dy);
  check.int32_vector("index", index, dy.rows());
  count_call();
  do_gather_rows_backward(dx, dy, index);
}

void Backend::repeat_rows_forward(Tensor y, Tensor x, int64_t copies) {
  const OperatorChecks check(__func__);
  check.given({y, x});
  check.one_type(y, x);
  check.matrix("y", y, copies * x.rows(), x.cols());
  count_call();
  do_repeat_rows_forward(y, x, copies);
}

void Backend::repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) {
  const OperatorChecks check(__func__);
  check.given({dx, dy});
  check.activations({dx, dy});
  check.matrix("dy", dy, copies * dx.rows(), dx.cols());
  count_call();
  do_repeat_rows_backward(dx, dy, copies);
}

void Backend::add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) {
  const OperatorChecks check(__func__);
  check.given({y, x, rows});
  check.activations({y, x, rows});
  check.like("y", y, x);
  check.repeated(y, rows);
  count_call();
  do_add_repeated_rows_forward(y, x, rows);
}

void Backend::add_repeated_rows_backward(Tensor drows, Tensor dy) {
  const OperatorChecks check(__func__);
  check.given({drows, dy});
  check.activations({dy});
  check.fp32({drows});
  check.repeated(dy, drows);
  count_call();
  do_add_repeated_rows_backward(drows, dy);
}

// ---- vision embeddings

void Backend::patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) {
  const OperatorChecks check(__func__);
  check.given({patches, pixels});
  check.activations({patches});
  const int64_t p = patch_size;
  ASSERT(p > 0 && pixels.dims() == 4 && pixels.size(1) == 3 && pixels.size(2) == pixels.size(3) &&
             pixels.size(2) >= p,
         "{}: patches of {} from pixels {}", __func__, p, pixels.shape_string());
  check.fp32_vector("pixels", pixels, pixels.numel());
  const int64_t grid = pixels.size(2) / p;
  check.matrix("patches", patches, pixels.size(0) * grid * grid, 3 * p * p);
  check.dense("patches", patches);
  count_call();
  do_patch_rows_forward(patches, pixels, patch_size);
}

void Backend::vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                                   Tensor position) {
  const OperatorChecks check(__func__);
  check.given({x, patch, class_embedding, position});
  check.activations({x, patch, class_embedding, position});
  check.repeated(x, position);
  const int64_t tokens = position.rows(), images = tokens == 0 ? 0 : x.rows() / tokens;
  check.matrix("patch", patch, images * (tokens - 1), x.cols());
  check.vector("class_embedding", class_embedding, x.cols());
  count_call();
  do_vision_embed_forward(x, patch, class_embedding, position);
}

void Backend::vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition, Tensor dx) {
  const OperatorChecks check(__func__);
  check.given({dpatch, dx});
  check.activations({dpatch, dx});
  check.as_wide("dpatch", dpatch, dx);
  const int64_t images = dx.rows() - dpatch.rows();  // one class row each
  ASSERT(dx.rows() == 0 ? images == 0 : images > 0 && dx.rows() % images == 0,
         "{}: patches {} of {}", __func__, dpatch.shape_string(), dx.shape_string());
  check.fp32_vector("dclass", dclass, dx.cols());
  check.fp32({dposition});
  if (images > 0) check.matrix("dposition", dposition, dx.rows() / images, dx.cols());
  count_call();
  do_vision_embed_backward(dpatch, dclass, dposition, dx);
}

void Backend::resize_positions_forward(Tensor out, Tensor in) {
  const OperatorChecks check(__func__);
  check.given({out, in});
  check.activations({out, in});
  check.as_wide("in", in, out);
  check.square_grid("out", out);
  check.square_grid("in", in);
  count_call();
  do_resize_positions_forward(out, in);
}

void Backend::resize_positions_backward_accumulate(Tensor din, Tensor dout) {
  const OperatorChecks check(__func__);
  check.given({din, dout});
  check.fp32({din, dout});
  check.as_wide("din", din, dout);
  check.square_grid("din", din);
  check.square_grid("dout", dout);
  count_call();
  do_resize_positions_backward_accumulate(din, dout);
}

// ---- plain values

void Backend::fill(Tensor x, float value) {
  const OperatorChecks check(__func__);
  check.given({x});
  check.floats({x});
  count_call();
  do_fill(x, value);
}

void Backend::copy(Tensor y, Tensor x) {
  const OperatorChecks check(__func__);
  check.given({y, x});
  check.like("y", y, x);
  const bool widens = y.dtype() == DType::kF32 && is_16_bit(x.dtype());
  const bool rounds = x.dtype() == DType::kF32 && is_16_bit(y.dtype());
  const bool moves = y.dtype() == x.dtype() && (is_16_bit(x.dtype()) || size_of(x.dtype()) == 4);
  ASSERT(widens || rounds || moves, "{}: {} {} into {} {}", __func__, name_of(x.dtype()),
         x.shape_string(), name_of(y.dtype()), y.shape_string());
  count_call();
  do_copy(y, x);
}

void Backend::add_accumulate(Tensor y, Tensor x) {
  const OperatorChecks check(__func__);
  check.given({y, x});
  check.floats({y, x});
  check.like("y", y, x);
  count_call();
  do_add_accumulate(y, x);
}

namespace {

void check_sum_rows(const OperatorChecks& check, const Tensor& y, const Tensor& x) {
  check.given({y, x});
  check.floats({x});
  ASSERT(x.rows() > 0, "{}: x {} has no rows for {}", check.name(), x.shape_string(),
         y.shape_string());
  check.fp32_vector("y", y, x.cols());
}

}  // namespace

void Backend::sum_rows(Tensor y, Tensor x) {
  check_sum_rows(OperatorChecks(__func__), y, x);
  count_call();
  do_sum_rows(y, x);
}

void Backend::sum_rows_accumulate(Tensor y, Tensor x) {
  check_sum_rows(OperatorChecks(__func__), y, x);
  count_call();
  do_sum_rows_accumulate(y, x);
}

void Backend::copy_from_host(Tensor y, const void* host) {
  OperatorChecks(__func__).given({y});
  count_call();
  do_copy_from_host(y, host);
}

void Backend::copy_to_host(void* host, Tensor x) {
  OperatorChecks(__func__).given({x});
  count_call();
  do_copy_to_host(host, x);
}

double Backend::sum(Tensor x) {
  const OperatorChecks check(__func__);
  check.given({x});
  check.floats({x});
  check.dense("x", x);
  count_call();
  return do_sum(x);
}

// ---- optimizer

void Backend::adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy, Tensor grad,
                         const AdamWStep& step) {
  const OperatorChecks check(__func__);
  check.given({param, exp_avg, exp_avg_sq, grad});
  const int64_t n = param.numel();
  check.fp32_vector("param", param, n);
  check.fp32_vector("exp_avg", exp_avg, n);
  check.fp32_vector("exp_avg_sq", exp_avg_sq, n);
  check.fp32_vector("grad", grad, n);
  check.vector("copy", copy, n);
  ASSERT(!copy.defined() || is_16_bit(copy.dtype()), "{}: a copy {} of {}", __func__,
         copy.shape_string(), name_of(copy.dtype()));
  ASSERT(step.t >= 1, "{}: step {}", __func__, step.t);
  count_call();
  do_adamw_step(param, exp_avg, exp_avg_sq, copy, grad, step);
}

void Backend::gradient_statistics(std::span<GradientStatistics> statistics,
                                  std::span<const Tensor> grads) {
  const OperatorChecks check(__func__);
  ASSERT(statistics.size() == grads.size(), "{}: {} statistics of {} gradients", __func__,
         statistics.size(), grads.size());
  for (const Tensor& grad : grads) {
    check.given({grad});
    check.fp32_vector("grad", grad, grad.numel());
  }
  count_call();
  do_gradient_statistics(statistics, grads);
}

}  // namespace facet
