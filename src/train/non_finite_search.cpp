#include "train/non_finite_search.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/half.h"

namespace facet {

namespace {

float value_at(const Tensor& x, int64_t row, int64_t col) {
  const int64_t place = row * x.row_stride() + col;
  return x.dtype() == DType::kF32 ? x.f32()[place]
                                  : float_from_16_bits(x.bits16()[place], x.dtype());
}

}  // namespace

Tensor NonFiniteSearch::on_host(const Tensor& x) {
  if (x.space() == Space::kHost) return x;
  copy_.resize(static_cast<size_t>(x.bytes()));
  if (!copy_.empty()) ops_.copy_to_host(copy_.data(), x);
  return Tensor(copy_.data(), {x.rows(), x.cols()}, x.dtype());
}

void NonFiniteSearch::look(const std::string& what, const Tensor& tensor) {
  const Tensor x = on_host(tensor);
  for (int64_t row = 0; found_.empty() && row < x.rows(); ++row)
    for (int64_t col = 0; found_.empty() && col < x.cols(); ++col)
      if (const float value = value_at(x, row, col); !std::isfinite(value))
        found_ = fmt::format("{}, element {} of {}, is {}", what, row * x.cols() + col,
                             tensor.shape_string(), value);
}

void NonFiniteSearch::look_at_pixels(const MicroBatch& batch) {
  for (size_t i = 0; found_.empty() && i < batch.pixels.size(); ++i)
    if (!std::isfinite(batch.pixels[i]))
      found_ = fmt::format("pixel value {} of the images is {}", i, batch.pixels[i]);
}

void NonFiniteSearch::before(int unit, Phase phase) {
  ForwardingHooks::before(unit, phase);
  if (phase == Phase::kBackward) touched_[static_cast<size_t>(unit)] = 1;
  // At its first use: the head's forward is part of its backward when it trains.
  if (std::exchange(seen_[static_cast<size_t>(unit)], 1) != 0) return;
  for (const Param* param : unit_of(unit).params)
    if (found_.empty())
      look(fmt::format("layer {}: parameter {}", unit_of(unit).name, param->name), param->value);
}

void NonFiniteSearch::wrote(int unit, Phase phase, const Tensor& x) {
  if (found_.empty())
    look(fmt::format("layer {}: its {}", unit_of(unit).name,
                     phase == Phase::kForward ? "output" : "gradient of the input"),
         x);
  ForwardingHooks::wrote(unit, phase, x);
}

void NonFiniteSearch::gradients_ready(int unit) {
  for (const Param* param : unit_of(unit).params)
    if (found_.empty() && touched(unit) && param->trained)
      look(fmt::format("layer {}: gradient of {}", unit_of(unit).name, param->name), param->grad);
  touched_[static_cast<size_t>(unit)] = 0;
  ForwardingHooks::gradients_ready(unit);
}

}  // namespace facet
