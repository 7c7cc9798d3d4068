#include <fmt/ranges.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::f32_on_device, cuda::on_device;

namespace {
cuda::Angles angles_of(const Rotation& rotation) {
  return {on_device(rotation.cos), on_device(rotation.sin)};
}
}  // namespace

void CudaBackend::warn_of_plain_attention(const Tensor& q, int64_t heads) {
  const int64_t width = q.cols() / heads;
  if (!is_16_bit(q.dtype()) || has_tensor_core_width(width)) return;
  if (plain_widths_.insert(width).second)
    warn("attention with heads of width {} runs without tensor cores, which take {}: much slower",
         width, fmt::join(kTensorCoreWidths, ", "));
}

void CudaBackend::warn_of_plain_backward(const Tensor& q, int64_t heads) {
  const int64_t width = q.cols() / heads;
  if (!is_16_bit(q.dtype()) || !has_tensor_core_width(width) ||
      cuda::attention_backward_fits(width))
    return;
  if (plain_widths_.insert(width).second)
    warn(
        "backward attention with heads of width {} runs without tensor cores, for which this GPU "
        "has too little shared memory: much slower",
        width);
}

void CudaBackend::join_attention(bool joins) {
  CHECK(!joins || cuda::has_joint_attention(), ExitCode::kConfig,
        "--attention_backward joint needs a GPU with 157 KiB of shared memory for a block (A100, "
        "H100, H200); leave it out");
  if (joins_attention_ != joins) attention_lists_.forget();
  joins_attention_ = joins;
}

cuda::AttentionLists CudaBackend::attention_lists(const AttentionPlan& plan, int64_t heads,
                                                  int64_t kv_heads) {
  return attention_lists_.lists_of(
      plan, joins_attention_ ? cuda::JointShare::of(multiprocessors_, heads, kv_heads)
                             : cuda::JointShare());
}

void CudaBackend::warn_of_separate_backward(int64_t width, const cuda::AttentionLists& lists) {
  if (separate_widths_.insert(width).second)
    warn(
        "backward attention with heads of width {}{} runs in two kernels: --attention_backward "
        "joint takes width 128 and no sliding window",
        width, lists.has_windows ? " and a sliding window" : "");
}

cuda::JointWorkspace CudaBackend::joint_workspace(const Tensor& q,
                                                  const cuda::AttentionLists& lists,
                                                  int64_t heads) {
  if (!joins_attention_ || !is_16_bit(q.dtype()) || q.rows() == 0) return {};
  if (!cuda::joint_attention_takes(lists, q.cols() / heads)) {
    warn_of_separate_backward(q.cols() / heads, lists);
    return {};
  }
  return {
      .sums = joint_sums_.take<float>(cuda::attention_joint_sums(q.rows(), heads)),
      .counters = joint_counters_.take<int32_t>(cuda::attention_joint_counters(q.rows(), heads))};
}

bool CudaBackend::decode_attention(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,
                                   Tensor v, const AttentionPlan& plan, int64_t heads,
                                   int64_t kv_heads, float scale) {
  if (!cuda::attention_decode_takes(on_device(q), on_device(k), on_device(v), heads)) return false;
  const cuda::DecodeLists lists = decode_lists_.lists_of(plan, multiprocessors_);
  const int64_t floats = cuda::attention_decode_floats(lists, heads, q.cols() / heads);
  float* partials = attention_partials_.take<float>(std::max<int64_t>(1, floats));
  cuda::attention_decode(on_device(out), f32_on_device(lse), on_device(out_part), on_device(q),
                         on_device(k), on_device(v), lists, partials, heads, kv_heads, scale,
                         stream_);
  return true;
}

void CudaBackend::do_attention_forward(Tensor out, Tensor lse, Tensor out_part, Tensor q, Tensor k,
                                       Tensor v, const AttentionPlan& plan, int64_t heads,
                                       int64_t kv_heads, float scale) {
  if (plan.samples.empty()) return;
  ASSERT(k.dtype() == q.dtype(), "keys in {} beside queries in {} on a GPU", name_of(k.dtype()),
         name_of(q.dtype()));
  if (cuda::has_few_queries(plan) &&
      decode_attention(out, lse, out_part, q, k, v, plan, heads, kv_heads, scale))
    return;
  if (attention_library_ && !plan.some_queries)
    return attention_library_->forward(
        on_device(out), f32_on_device(lse),
        {on_device(q), on_device(k), on_device(v), heads, kv_heads, scale}, plan);
  warn_of_plain_attention(q, heads);
  cuda::attention_forward(on_device(out), f32_on_device(lse), on_device(out_part), on_device(q),
                          on_device(k), on_device(v), attention_lists(plan, heads, kv_heads), heads,
                          kv_heads, scale, stream_);
}

void CudaBackend::do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,
                                        Tensor k, Tensor v, Tensor out, Tensor out_part, Tensor lse,
                                        const Rotation& q_rotation, const Rotation& k_rotation,
                                        const AttentionPlan& plan, int64_t heads, int64_t kv_heads,
                                        float scale) {
  if (plan.samples.empty()) return;
  if (attention_library_ && !plan.some_queries) {
    attention_library_->backward({on_device(dq), on_device(dk), on_device(dv)}, on_device(dout),
                                 on_device(out), f32_on_device(lse),
                                 {on_device(q), on_device(k), on_device(v), heads, kv_heads, scale},
                                 plan);
    return turn_back(dq, dk, q_rotation, k_rotation, heads, kv_heads);
  }
  warn_of_plain_backward(q, heads);
  const int64_t statistics = plan.num_slots * heads * q.rows();
  float* delta = attention_delta_.take<float>(std::max<int64_t>(1, statistics));
  const cuda::AttentionLists lists = attention_lists(plan, heads, kv_heads);
  cuda::attention_backward(on_device(dq), on_device(dk), on_device(dv), on_device(dout),
                           on_device(q), on_device(k), on_device(v), on_device(out),
                           on_device(out_part), f32_on_device(lse), delta, angles_of(q_rotation),
                           angles_of(k_rotation), lists, heads, kv_heads, scale, attention_side_,
                           stream_, joint_workspace(q, lists, heads));
}

}  // namespace facet
