// The CUDA backend for tests whose tensors are in host memory: each is mirrored in device memory,
// with the gaps between its rows, when an operator first sees it, and brought back by finish().
// Until then operators are only enqueued.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/cuda/backend.h"
#include "tests/kernels/device_buffer.h"

namespace facet::kernel_test {

// Of the backend in a test: the emulation never uses an address twice, and the race check keeps
// many bytes for each one that it has seen.
constexpr CudaBackendSizes kSmallSizes{.ring_bytes = int64_t{1} << 20,
                                       .upload_bytes = int64_t{1} << 20,
                                       .product_workspace_bytes = size_t{1} << 16};

class Mirrored final : public Backend {
 public:
  explicit Mirrored(CudaBackend& cuda) : cuda_(cuda) {}

  void finish() {
    for (const Mirror& mirror : mirrors_) cuda_.copy_to_host(mirror.host, bytes_of(mirror));
    mirrors_.clear();
  }
  bool takes_lora_downs() const override { return cuda_.takes_lora_downs(); }
  int64_t allocations() const { return allocations_; }  // that mirrors took
  // Of the CUDA backend in the last operator.
  int64_t calls() const { return cuda_.counts().calls - calls_before_; }

 private:
  void do_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual) override {
    return run(&Backend::linear_forward, y, x, weight, bias, residual);
  }
  void do_linear_few_rows_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                  Tensor residual) override {
    return run(&Backend::linear_few_rows_forward, y, x, weight, bias, residual);
  }
  void do_linear_backward_input(Tensor dx, Tensor dy, Tensor weight) override {
    return run(&Backend::linear_backward_input, dx, dy, weight);
  }
  void do_linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) override {
    return run(&Backend::linear_backward_input_accumulate, dx, dy, weight);
  }
  void do_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) override {
    return run(&Backend::linear_backward_weight, dweight, dbias, dy, x);
  }
  void do_lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right, Tensor left,
                                  float scale) override {
    return run(&Backend::lora_forward_accumulate, y, u, x, right, left, scale);
  }
  void do_lora_backward_input_accumulate(Tensor dx, Tensor dleft, Tensor du, Tensor dy, Tensor u,
                                         Tensor right, Tensor left, float scale) override {
    return run(&Backend::lora_backward_input_accumulate, dx, dleft, du, dy, u, right, left, scale);
  }
  void do_lora_backward_right(Tensor x, std::span<const LoraPart> parts) override {
    return run(&Backend::lora_backward_right, x, parts);
  }
  void do_lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual,
                              std::span<const LoraPart> parts, float scale,
                              const Rotation& rotation, int64_t rotated_heads) override {
    return run(&Backend::lora_linear_forward, y, x, weight, bias, residual, parts, scale, rotation,
               rotated_heads);
  }
  void do_lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                     std::span<const LoraPart> parts, float scale) override {
    return run(&Backend::lora_linear_backward_input, dx, dy, weight, parts, scale);
  }
  void do_dora_row_norms(Tensor norm, Tensor weight, Tensor right, Tensor left,
                         float scale) override {
    return run(&Backend::dora_row_norms, norm, weight, right, left, scale);
  }
  void do_dora_forward(Tensor y, Tensor z, Tensor magnitude, Tensor norm, Tensor bias,
                       Tensor residual) override {
    return run(&Backend::dora_forward, y, z, magnitude, norm, bias, residual);
  }
  void do_dora_backward(Tensor dz, Tensor dmagnitude, Tensor dy, Tensor z, Tensor magnitude,
                        Tensor norm) override {
    return run(&Backend::dora_backward, dz, dmagnitude, dy, z, magnitude, norm);
  }
  void do_rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,
                           std::span<const LoraDown> downs) override {
    return run(&Backend::rms_norm_forward, y, rstd, x, weight, eps, downs);
  }
  void do_rms_norm_backward(Tensor dx, Tensor dweight, Tensor y, Tensor dy, Tensor x, Tensor weight,
                            Tensor rstd, Tensor dresidual) override {
    return run(&Backend::rms_norm_backward, dx, dweight, y, dy, x, weight, rstd, dresidual);
  }
  void do_layer_norm_forward(Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor weight,
                             Tensor bias, float eps) override {
    return run(&Backend::layer_norm_forward, y, mean, rstd, x, weight, bias, eps);
  }
  void do_layer_norm_backward(Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x,
                              Tensor weight, Tensor mean, Tensor rstd, Tensor dresidual) override {
    return run(&Backend::layer_norm_backward, dx, dweight, dbias, dy, x, weight, mean, rstd,
               dresidual);
  }
  void do_swiglu_forward(Tensor act, Tensor gate_up, std::span<const LoraDown> downs) override {
    return run(&Backend::swiglu_forward, act, gate_up, downs);
  }
  void do_swiglu_backward(Tensor dgate_up, Tensor act, Tensor dact, Tensor gate_up) override {
    return run(&Backend::swiglu_backward, dgate_up, act, dact, gate_up);
  }
  void do_gelu_forward(Tensor y, Tensor x, Activation activation) override {
    return run(&Backend::gelu_forward, y, x, activation);
  }
  void do_gelu_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) override {
    return run(&Backend::gelu_backward, dx, dy, x, activation);
  }
  void do_rope_forward(Tensor x, Tensor cos, Tensor sin, int64_t heads) override {
    return run(&Backend::rope_forward, x, cos, sin, heads);
  }
  void do_rope_backward(Tensor dx, Tensor cos, Tensor sin, int64_t heads) override {
    return run(&Backend::rope_backward, dx, cos, sin, heads);
  }
  void do_attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k, Tensor v,
                            const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                            float scale) override {
    return run(&Backend::attention_forward, out, lse, out_part, q, k, v, plan, heads, kv_heads,
               scale);
  }
  void do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                             Tensor v, Tensor out, Tensor out_part, Tensor lse,
                             const Rotation& q_rotation, const Rotation& k_rotation,
                             const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                             float scale) override {
    return run(&Backend::attention_backward, dq, dk, dv, dout, q, k, v, out, out_part, lse,
               q_rotation, k_rotation, plan, heads, kv_heads, scale);
  }
  void do_splice_forward(Tensor x, Tensor embed, Tensor image, Tensor source) override {
    return run(&Backend::splice_forward, x, embed, image, source);
  }
  void do_splice_backward(Tensor dembed, Tensor dimage, Tensor dx, Tensor source) override {
    return run(&Backend::splice_backward, dembed, dimage, dx, source);
  }
  void do_gather_rows_forward(Tensor y, Tensor x, Tensor index) override {
    return run(&Backend::gather_rows_forward, y, x, index);
  }
  void do_gather_rows_backward(Tensor dx, Tensor dy, Tensor index) override {
    return run(&Backend::gather_rows_backward, dx, dy, index);
  }
  void do_repeat_rows_forward(Tensor y, Tensor x, int64_t copies) override {
    return run(&Backend::repeat_rows_forward, y, x, copies);
  }
  void do_repeat_rows_backward(Tensor dx, Tensor dy, int64_t copies) override {
    return run(&Backend::repeat_rows_backward, dx, dy, copies);
  }
  void do_add_repeated_rows_forward(Tensor y, Tensor x, Tensor rows) override {
    return run(&Backend::add_repeated_rows_forward, y, x, rows);
  }
  void do_add_repeated_rows_backward(Tensor drows, Tensor dy) override {
    return run(&Backend::add_repeated_rows_backward, drows, dy);
  }
  void do_patch_rows_forward(Tensor patches, Tensor pixels, int64_t patch_size) override {
    return run(&Backend::patch_rows_forward, patches, pixels, patch_size);
  }
  void do_vision_embed_forward(Tensor x, Tensor patch, Tensor class_embedding,
                               Tensor position) override {
    return run(&Backend::vision_embed_forward, x, patch, class_embedding, position);
  }
  void do_vision_embed_backward(Tensor dpatch, Tensor dclass, Tensor dposition,
                                Tensor dx) override {
    return run(&Backend::vision_embed_backward, dpatch, dclass, dposition, dx);
  }
  void do_resize_positions_forward(Tensor out, Tensor in) override {
    return run(&Backend::resize_positions_forward, out, in);
  }
  void do_resize_positions_backward_accumulate(Tensor din, Tensor dout) override {
    return run(&Backend::resize_positions_backward_accumulate, din, dout);
  }
  void do_cross_entropy_forward(Tensor row_loss, Tensor logits, Tensor labels) override {
    return run(&Backend::cross_entropy_forward, row_loss, logits, labels);
  }
  void do_cross_entropy_forward_backward(Tensor row_loss, Tensor logits, Tensor labels,
                                         float gradient_scale) override {
    return run(&Backend::cross_entropy_forward_backward, row_loss, logits, labels, gradient_scale);
  }
  void do_fill(Tensor x, float value) override { return run(&Backend::fill, x, value); }
  void do_copy(Tensor y, Tensor x) override { return run(&Backend::copy, y, x); }
  void do_add_accumulate(Tensor y, Tensor x) override {
    return run(&Backend::add_accumulate, y, x);
  }
  void do_sum_rows(Tensor y, Tensor x) override { return run(&Backend::sum_rows, y, x); }
  void do_sum_rows_accumulate(Tensor y, Tensor x) override {
    return run(&Backend::sum_rows_accumulate, y, x);
  }
  void do_copy_from_host(Tensor y, const void* host) override {
    return run(&Backend::copy_from_host, y, host);
  }
  void do_copy_to_host(void* host, Tensor x) override {
    return run(&Backend::copy_to_host, host, x);
  }
  double do_sum(Tensor x) override { return run(&Backend::sum, x); }
  void do_adamw_step(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, Tensor copy, Tensor grad,
                     const AdamWStep& step) override {
    return run(&Backend::adamw_step, param, exp_avg, exp_avg_sq, copy, grad, step);
  }
  void do_gradient_statistics(std::span<GradientStatistics> statistics,
                              std::span<const Tensor> grads) override {
    using OfOne = GradientStatistics (Backend::*)(Tensor);
    for (size_t i = 0; i < grads.size(); ++i)
      statistics[i] = run(static_cast<OfOne>(&Backend::gradient_statistics), grads[i]);
  }

  struct Mirror {
    char* host;
    int64_t bytes;
    std::unique_ptr<DeviceBuffer<char>> device;

    char* end() const { return host + bytes; }
  };

  static Tensor bytes_of(const Mirror& mirror) {
    return Tensor(mirror.device->data(), {mirror.bytes}, DType::kU8, Space::kDevice);
  }

  template <typename Result, typename... Params, typename... Args>
  Result run(Result (Backend::*op)(Params...), const Args&... args) {
    std::vector<Mirror> seen;
    (note(seen, args), ...);
    mirror_all(seen);
    calls_before_ = cuda_.counts().calls;
    return (cuda_.*op)(on_device(args)...);
  }

  // From the first element to the last.
  static void note(std::vector<Mirror>& seen, const Tensor& t) {
    if (!t.defined() || t.numel() == 0) return;
    const int64_t bytes = ((t.rows() - 1) * t.row_stride() + t.cols()) * size_of(t.dtype());
    seen.push_back({t.data<char>(), bytes, nullptr});
  }
  static void note(std::vector<Mirror>& seen, const std::span<const LoraPart>& parts) {
    for (const LoraPart& part : parts)
      for (const Tensor& t : {part.u, part.right, part.left, part.du, part.dright, part.dleft})
        note(seen, t);
  }
  static void note(std::vector<Mirror>& seen, const Rotation& rotation) {
    for (const Tensor& t : {rotation.cos, rotation.sin}) note(seen, t);
  }
  static void note(std::vector<Mirror>& seen, const std::span<const LoraDown>& downs) {
    for (const auto& [u, right] : downs)
      for (const Tensor& t : {u, right}) note(seen, t);
  }
  template <typename Other>
  static void note(std::vector<Mirror>&, const Other&) {}

  // Tensors that overlap (columns of one matrix, an output that is an input) share a mirror.
  void mirror_all(std::vector<Mirror>& seen) {
    std::sort(seen.begin(), seen.end(),
              [](const Mirror& a, const Mirror& b) { return a.host < b.host; });
    for (size_t i = 0; i < seen.size();) {
      char *begin = seen[i].host, *end = seen[i].end();
      for (++i; i < seen.size() && seen[i].host < end; ++i) end = std::max(end, seen[i].end());
      if (find(begin, end)) continue;
      mirrors_.push_back({begin, end - begin, std::make_unique<DeviceBuffer<char>>(end - begin)});
      ++allocations_;
      cuda_.copy_from_host(bytes_of(mirrors_.back()), begin);
    }
  }
  const Mirror* find(const char* begin, const char* end) const {
    for (const Mirror& mirror : mirrors_) {
      if (mirror.host <= begin && end <= mirror.end()) return &mirror;
      ASSERT(end <= mirror.host || mirror.end() <= begin, "two mirrors of one place");
    }
    return nullptr;
  }

  Tensor on_device(const Tensor& t) const {
    if (!t.defined()) return t;
    char* data = nullptr;
    if (t.numel() > 0) {
      const Mirror* mirror = find(t.data<char>(), t.data<char>() + 1);
      data = mirror->device->data() + (t.data<char>() - mirror->host);
    }
    const auto size = [&](int dim) { return t.size(dim); };
    switch (t.dims()) {
      case 1: return Tensor(data, {size(0)}, t.dtype(), Space::kDevice);
      case 3: return Tensor(data, {size(0), size(1), size(2)}, t.dtype(), Space::kDevice);
      case 4: return Tensor(data, {size(0), size(1), size(2), size(3)}, t.dtype(), Space::kDevice);
      default: break;
    }
    const Tensor wide(data, {t.rows(), t.row_stride()}, t.dtype(), Space::kDevice);
    return wide.column_block(0, t.cols());
  }
  std::vector<LoraPart> on_device(const std::span<const LoraPart>& parts) const {
    std::vector<LoraPart> there;
    for (const LoraPart& part : parts)
      there.push_back({part.begin, on_device(part.u), on_device(part.right), on_device(part.left),
                       on_device(part.du), on_device(part.dright), on_device(part.dleft),
                       part.has_u});
    return there;
  }
  std::vector<LoraDown> on_device(const std::span<const LoraDown>& downs) const {
    std::vector<LoraDown> there;
    for (const auto& [u, right] : downs) there.push_back({on_device(u), on_device(right)});
    return there;
  }
  Rotation on_device(const Rotation& rotation) const {
    return {on_device(rotation.cos), on_device(rotation.sin)};
  }
  template <typename Other>
  static const Other& on_device(const Other& other) {
    return other;
  }

  CudaBackend& cuda_;
  std::vector<Mirror> mirrors_;
  int64_t allocations_ = 0, calls_before_ = 0;
};

}  // namespace facet::kernel_test
