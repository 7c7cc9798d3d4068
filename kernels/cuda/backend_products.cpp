// Linear layers and LoRA, and the operators that make its inputs.
#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/log.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_product.h"
#include "kernels/cuda/on_device.h"
#include "kernels/cuda/stopwatch.h"

namespace facet {

using cuda::f32_on_device, cuda::on_device;

void CudaBackend::do_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                    Tensor residual) {
  products_.linear_forward(on_device(y), on_device(x), on_device(weight), on_device(bias),
                           on_device(residual));
}

// cuBLASLt has algorithms of its own for few rows.
void CudaBackend::do_linear_few_rows_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                             Tensor residual) {
  ASSERT(weight.dtype() == x.dtype(), "a weight in {} beside rows in {} on a GPU",
         name_of(weight.dtype()), name_of(x.dtype()));
  do_linear_forward(y, x, weight, bias, residual);
}

void CudaBackend::do_linear_backward_input(Tensor dx, Tensor dy, Tensor weight) {
  products_.linear_backward_input(on_device(dx), on_device(dy), on_device(weight));
}

void CudaBackend::do_linear_backward_input_accumulate(Tensor dx, Tensor dy, Tensor weight) {
  products_.linear_backward_input_accumulate(on_device(dx), on_device(dy), on_device(weight));
}

void CudaBackend::do_linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dy, Tensor x) {
  products_.linear_backward_weight(on_device(dweight), on_device(dbias), on_device(dy),
                                   on_device(x));
}

void CudaBackend::warn_of_plain_lora(int64_t rank) {
  constexpr int64_t kPack = 8;
  if (rank % kPack != 0 && plain_ranks_.insert(rank).second)
    warn("LoRA of rank {} runs without tensor cores, which take multiples of {}: much slower", rank,
         kPack);
}

namespace {

cuda::LoraOperands operands_of(const LoraPart& part, const Tensor& y, const Tensor& addend) {
  const auto columns = [&](const Tensor& of) {
    return on_device(of.defined() ? of.column_block(part.begin, part.left.cols()) : of);
  };
  return {columns(y),           columns(addend),    on_device(part.u),      on_device(part.right),
          on_device(part.left), on_device(part.du), on_device(part.dright), on_device(part.dleft)};
}

bool cover(std::span<const LoraPart> parts, int64_t outputs) {
  for (const LoraPart& part : parts) outputs -= part.left.cols();
  return outputs == 0;
}

}  // namespace

void CudaBackend::add_lora(Tensor y, Tensor addend, Tensor x, std::span<const LoraPart> parts,
                           float scale) {
  if (is_16_bit(x.dtype())) warn_of_plain_lora(parts[0].right.cols());
  std::vector<cuda::LoraOperands> operands;
  for (const LoraPart& part : parts) operands.push_back(operands_of(part, y, addend));
  cuda::lora_forward(operands, on_device(x), scale,
                     parts[0].has_u ? cuda::LoraU::kGiven : cuda::LoraU::kComputed,
                     multiprocessors_, stream_);
}

void CudaBackend::add_lora_backward(Tensor dx, Tensor addend, Tensor dy,
                                    std::span<const LoraPart> parts, float scale) {
  std::vector<cuda::LoraOperands> operands;
  for (const LoraPart& part : parts) operands.push_back(operands_of(part, dy, Tensor()));
  const int64_t floats = cuda::lora_backward_floats(operands);
  cuda::lora_backward_input(operands, on_device(dx), on_device(addend), scale,
                            floats > 0 ? lora_sums_.take<float>(floats) : nullptr, multiprocessors_,
                            stream_);
}

void CudaBackend::do_lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right,
                                             Tensor left, float scale) {
  const LoraPart part{.u = u, .right = right, .left = left};
  add_lora(y, y, x, {&part, 1}, scale);
}

void CudaBackend::do_lora_backward_input_accumulate(Tensor dx, Tensor dleft, Tensor du, Tensor dy,
                                                    Tensor u, Tensor right, Tensor left,
                                                    float scale) {
  const LoraPart part{.u = u, .right = right, .left = left, .du = du, .dleft = dleft};
  add_lora_backward(dx, dx, dy, {&part, 1}, scale);
}

void CudaBackend::do_lora_backward_right(Tensor x, std::span<const LoraPart> parts) {
  std::vector<cuda::LoraOperands> operands;
  for (const LoraPart& part : parts) operands.push_back(operands_of(part, Tensor(), Tensor()));
  cuda::lora_backward_right(operands, on_device(x), stream_);
}

// ---- a linear layer and its LoRA in one product

void CudaBackend::join_lora(bool joins) {
  CHECK(!joins || cuda::has_lora_product(), ExitCode::kConfig,
        "--lora_products fused needs a GPU of compute capability 9.0 (H100, H200) and a program "
        "that was built for sm_90; leave it out");
  joins_lora_ = joins;
}

namespace {

// A list that allocates nothing: a step does not.
class PartOperands {
 public:
  explicit PartOperands(std::span<const LoraPart> parts) : count_(parts.size()) {
    for (size_t i = 0; i < std::min(count_, operands_.size()); ++i)
      operands_[i] = {parts[i].begin, on_device(parts[i].u), on_device(parts[i].right),
                      on_device(parts[i].left), on_device(parts[i].du)};
  }
  bool too_many() const { return count_ > operands_.size(); }
  operator std::span<const cuda::LoraPartOperands>() const { return {operands_.data(), count_}; }

 private:
  std::array<cuda::LoraPartOperands, cuda::kMostLoraParts> operands_;
  size_t count_;
};

bool takes(const Tensor& y, const Tensor& x, const Tensor& weight, const PartOperands& operands) {
  return !operands.too_many() &&
         cuda::lora_product_takes(on_device(y), on_device(x), on_device(weight), operands);
}

void check_taken(const Tensor& y, const Tensor& x, const Tensor& weight,
                 std::span<const LoraPart> parts, const PartOperands& operands) {
  CHECK(
      takes(y, x, weight, operands), ExitCode::kConfig,
      "--lora_products fused takes bf16 and fp16, inputs, outputs and ranks that are multiples of "
      "8, and at most {} adapters of a product, all of one rank, not {} x {} of {} with {} "
      "adapters, the first of rank {}; leave it out",
      cuda::kMostLoraParts, y.cols(), x.cols(), name_of(x.dtype()), parts.size(),
      parts.front().right.cols());
}

}  // namespace

void CudaBackend::choose_lora() {
  chooses_downs_ = true;
  chooses_lora_ = cuda::has_lora_product();
  if (!chooses_lora_)
    warn(
        "--lora_products timed chooses for LoRA's first products alone: the fused products need a "
        "GPU of compute capability 9.0 (H100, H200) and a program that was built for sm_90; the "
        "rest of LoRA is computed apart");
}

void CudaBackend::time_products(bool algorithms) {
  products_.take_choices({});
  if (algorithms) products_.time_algorithms();
  if (chooses_downs_) products_.time_lora();
}

template <typename Key, typename Fused, typename Separate>
void CudaBackend::run_chosen(const Key& key, const Fused& fused, const Separate& separate) {
  std::optional<cuda::LoraWay> way = products_.lora_way(key);
  if (!way) {
    separate();  // cuBLASLt's algorithms are timed before
    const float of_separate = cuda::milliseconds_of(stream_, separate);
    const float of_fused = cuda::milliseconds_of(stream_, fused);
    way = of_fused < of_separate ? cuda::LoraWay::kFused : cuda::LoraWay::kSeparate;
    products_.choose_lora(key, *way);
  }
  if (*way == cuda::LoraWay::kFused)
    fused();
  else
    separate();
}

// Apart, LoRA's product comes first where it has a value for every output, and the layer's own is
// added to it: y is written once and read in the epilogue of cuBLASLt, instead of being read and
// written after it, and of the two roundings the first is of the smaller number.
void CudaBackend::do_lora_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                         Tensor residual, std::span<const LoraPart> parts,
                                         float scale, const Rotation& rotation,
                                         int64_t rotated_heads) {
  const PartOperands operands(parts);
  const cuda::RotationOperands angles{on_device(rotation.cos), on_device(rotation.sin),
                                      rotation.defined() ? rotated_heads : 0};
  const auto fused = [&] {
    add_lora(Tensor(), Tensor(), x, parts, scale);
    cuda::lora_product_forward(on_device(y), on_device(x), on_device(weight), on_device(bias),
                               on_device(residual), operands, scale, angles, multiprocessors_,
                               stream_);
  };
  const auto separate = [&] {
    if (cover(parts, y.cols())) {
      add_lora(y, residual, x, parts, scale);
      do_linear_forward(y, x, weight, bias, y);
    } else {
      do_linear_forward(y, x, weight, bias, residual);
      add_lora(y, y, x, parts, scale);
    }
    turn_heads(y, rotation, rotated_heads);
  };
  if (joins_lora_) {
    check_taken(y, x, weight, parts, operands);
    fused();
  } else if (chooses_lora_ && y.rows() > 0 && takes(y, x, weight, operands)) {
    run_chosen(cuda::lora_key(cuda::LoraKey::Direction::kForward, on_device(y), on_device(x),
                              on_device(bias), on_device(residual), operands, angles),
               fused, separate);
  } else {
    separate();
  }
}

void CudaBackend::do_lora_linear_backward_input(Tensor dx, Tensor dy, Tensor weight,
                                                std::span<const LoraPart> parts, float scale) {
  const PartOperands operands(parts);
  const auto fused = [&] {
    add_lora_backward(Tensor(), Tensor(), dy, parts, scale);
    cuda::lora_product_backward_input(on_device(dx), on_device(dy), on_device(weight), operands,
                                      multiprocessors_, stream_);
  };
  const auto separate = [&] {
    add_lora_backward(dx, Tensor(), dy, parts, scale);
    if (dx.defined()) do_linear_backward_input_accumulate(dx, dy, weight);
  };
  if (joins_lora_ && dx.defined()) {
    check_taken(dy, dx, weight, parts, operands);
    fused();
  } else if (chooses_lora_ && dx.defined() && dy.rows() > 0 && takes(dy, dx, weight, operands)) {
    run_chosen(cuda::lora_key(cuda::LoraKey::Direction::kBackward, on_device(dy), on_device(dx), {},
                              {}, operands, {}),
               fused, separate);
  } else {
    separate();
  }
}

// ---- LoRA's first product where its input is made

void CudaBackend::compute_downs(const Tensor& x, std::span<const LoraDown> downs) {
  std::array<LoraPart, cuda::kMostLoraParts> parts;  // of one rank
  ASSERT(downs.size() <= parts.size(), "{} adapters of one input", downs.size());
  for (size_t first = 0, last = 0; first < downs.size(); first = last) {
    for (; last < downs.size() && downs[last].u.cols() == downs[first].u.cols(); ++last) {
      parts[last - first].u = downs[last].u;
      parts[last - first].right = downs[last].right;
    }
    add_lora(Tensor(), Tensor(), x, {parts.data(), last - first}, 1);
  }
}

void CudaBackend::do_rms_norm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, float eps,
                                      std::span<const LoraDown> downs) {
  cuda::rms_norm_forward(on_device(y), f32_on_device(rstd), on_device(x), on_device(weight), eps,
                         stream_);
  compute_downs(y, downs);
}

void CudaBackend::do_swiglu_forward(Tensor act, Tensor gate_up, std::span<const LoraDown> downs) {
  const cuda::Operand act_NF = on_device(act), gate_up_N2F = on_device(gate_up);
  const auto separate = [&] {
    cuda::swiglu_forward(act_NF, gate_up_N2F, stream_);
    compute_downs(act, downs);
  };
  if (downs.size() != 1) return separate();
  const cuda::Operand u = on_device(downs[0].u), right = on_device(downs[0].right);
  const bool takes = cuda::swiglu_lora_takes(act_NF, gate_up_N2F, u, right, multiprocessors_);
  const auto together = [&] { cuda::swiglu_lora_forward(act_NF, gate_up_N2F, u, right, stream_); };
  if (takes && joins_lora_)
    together();
  else if (takes && chooses_downs_)
    run_chosen(cuda::LoraDownKey{act.dtype(), act_NF.rows, act_NF.cols, right.cols}, together,
               separate);
  else
    separate();
}

}  // namespace facet
