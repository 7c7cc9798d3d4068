// Linear layers and LoRA.
#include <algorithm>
#include <array>

#include "base/log.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/lora_product.h"
#include "kernels/cuda/on_device.h"

namespace facet {

using cuda::on_device;

void CudaBackend::do_linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                    Tensor residual) {
  products_.linear_forward(on_device(y), on_device(x), on_device(weight), on_device(bias),
                           on_device(residual));
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

void CudaBackend::do_lora_forward_accumulate(Tensor y, Tensor u, Tensor x, Tensor right,
                                             Tensor left, float scale) {
  if (is_16_bit(x.dtype())) warn_of_plain_lora(right.cols());
  cuda::lora_forward_accumulate(on_device(y), on_device(u), on_device(x), on_device(right),
                                on_device(left), scale, stream_);
}

void CudaBackend::do_lora_backward_accumulate(Tensor dx, Tensor dright, Tensor dleft, Tensor du,
                                              Tensor dy, Tensor x, Tensor u, Tensor right,
                                              Tensor left, float scale) {
  cuda::lora_backward_accumulate(on_device(dx), on_device(dright), on_device(dleft), on_device(du),
                                 on_device(dy), on_device(x), on_device(u), on_device(right),
                                 on_device(left), scale, stream_);
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

void check_taken(const Tensor& y, const Tensor& x, const Tensor& weight,
                 std::span<const LoraPart> parts, const PartOperands& operands) {
  CHECK(
      !operands.too_many() &&
          cuda::lora_product_takes(on_device(y), on_device(x), on_device(weight), operands),
      ExitCode::kConfig,
      "--lora_products fused takes bf16 and fp16, inputs, outputs and ranks that are multiples of "
      "8, and at most {} adapters of a product, not {} x {} of {} with {} adapters, the first of "
      "rank {}; leave it out",
      cuda::kMostLoraParts, y.cols(), x.cols(), name_of(x.dtype()), parts.size(),
      parts.front().right.cols());
}

}  // namespace

void CudaBackend::do_linear_lora_forward(Tensor y, Tensor x, Tensor weight, Tensor bias,
                                         Tensor residual, std::span<const LoraPart> parts,
                                         float scale) {
  if (!joins_lora_)
    return Backend::do_linear_lora_forward(y, x, weight, bias, residual, parts, scale);
  const PartOperands operands(parts);
  check_taken(y, x, weight, parts, operands);
  for (const LoraPart& part : parts)
    cuda::lora_narrow_forward(on_device(part.u), on_device(x), on_device(part.right), stream_);
  cuda::lora_product_forward(on_device(y), on_device(x), on_device(weight), on_device(bias),
                             on_device(residual), operands, scale, stream_);
}

void CudaBackend::do_linear_lora_backward(Tensor dx, Tensor dy, Tensor x, Tensor weight,
                                          std::span<const LoraPart> parts, float scale,
                                          bool accumulates) {
  if (!joins_lora_ || !dx.defined())
    return Backend::do_linear_lora_backward(dx, dy, x, weight, parts, scale, accumulates);
  const PartOperands operands(parts);
  check_taken(dy, x, weight, parts, operands);
  for (const LoraPart& part : parts)
    cuda::lora_narrow_backward(on_device(part.dright), on_device(part.dleft), on_device(part.du),
                               on_device(dy.column_block(part.begin, part.left.cols())),
                               on_device(x), on_device(part.u), on_device(part.right),
                               on_device(part.left), scale, stream_);
  cuda::lora_product_backward_input(on_device(dx), on_device(dy), on_device(weight),
                                    accumulates ? on_device(dx) : cuda::Operand{}, operands,
                                    stream_);
}

}  // namespace facet
