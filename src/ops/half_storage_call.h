// How HalfStorage runs an operator: the panels of one call, and the blocks it is cut into.
#pragma once

#include <algorithm>
#include <array>

#include "base/check.h"
#include "ops/half_storage.h"

namespace facet {

// The fp32 side of one call of the backend below: 16-bit operands stand in panels, all others pass.
class HalfStorage::Call {
 public:
  explicit Call(HalfStorage& owner) : owner_(owner), scope_(owner.panels_) {}

  Tensor in(const Tensor& x) {
    if (!is_16_bit(x.dtype())) return x;
    const Tensor panel = panel_of(x);
    owner_.below_.copy(panel, x);
    return panel;
  }
  // Its content is undefined until the operator has written it.
  Tensor out(const Tensor& y) { return is_16_bit(y.dtype()) ? kept(y, panel_of(y)) : y; }
  Tensor in_out(const Tensor& y) { return is_16_bit(y.dtype()) ? kept(y, in(y)) : y; }

  // Rounds the outputs.
  void finish() {
    for (size_t i = 0; i < num_outputs_; ++i)
      owner_.below_.copy(outputs_[i].tensor, outputs_[i].panel);
  }

 private:
  struct Output {
    Tensor tensor, panel;
  };
  // A vector's panel is a vector, all others are matrices.
  Tensor panel_of(const Tensor& x) {
    if (x.dims() == 1) return owner_.panels_.tensor({x.numel()});
    return owner_.panels_.tensor({x.rows(), x.cols()});
  }
  Tensor kept(const Tensor& tensor, const Tensor& panel) {
    ASSERT(num_outputs_ < outputs_.size(), "an operator with more than {} outputs",
           outputs_.size());
    outputs_[num_outputs_++] = {tensor, panel};
    return panel;
  }

  HalfStorage& owner_;
  ArenaScope scope_;
  std::array<Output, 4> outputs_;
  size_t num_outputs_ = 0;
};

// A block of rows, or of a weight's outputs, and what belongs to it of an operand; of an absent one
// nothing.
struct HalfStorage::Block {
  int64_t begin, count;

  Tensor rows(const Tensor& x) const { return x.defined() ? x.row_block(begin, count) : x; }
  Tensor columns(const Tensor& x) const { return x.defined() ? x.column_block(begin, count) : x; }
  Tensor elements(const Tensor& x) const { return x.defined() ? x.range(begin, count) : x; }
};

template <typename Body>
void HalfStorage::in_blocks(int64_t total, int64_t step, const Body& body) {
  for (int64_t begin = 0; begin < total; begin += step) {
    Call call(*this);
    body(call, Block{begin, std::min(step, total - begin)});
    call.finish();
  }
}

template <typename Body>
void HalfStorage::in_row_blocks(std::initializer_list<Tensor> operands, const Body& body) {
  constexpr int64_t kPanelFloats = int64_t{1} << 19;
  constexpr int64_t kFewestRows = 128;  // so that every thread has some
  const int64_t rows = operands.begin()->rows();
  int64_t floats = 0;  // of the panels, a row
  for (const Tensor& x : operands)
    if (is_16_bit(x.dtype())) floats += x.cols();
  in_blocks(rows, floats == 0 ? rows : std::max(kFewestRows, kPanelFloats / floats), body);
}

template <typename Body>
void HalfStorage::in_output_blocks(std::initializer_list<Tensor> operands, int64_t outputs,
                                   int64_t inputs, const Body& body) {
  constexpr int64_t kPanelFloats = int64_t{1} << 20;  // of the weight
  constexpr int64_t kMultiple = 64;                   // a product is fast when it is not narrow
  const bool panels = std::any_of(operands.begin(), operands.end(),
                                  [](const Tensor& x) { return is_16_bit(x.dtype()); });
  const int64_t fitting = kPanelFloats / std::max<int64_t>(1, inputs) / kMultiple * kMultiple;
  in_blocks(outputs, panels ? std::max(kMultiple, fitting) : outputs, body);
}

}  // namespace facet
