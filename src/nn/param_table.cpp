#include "nn/param_table.h"

#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/rng.h"

namespace facet {
namespace {

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t elements(const ParamUnit& unit, bool trained) {
  int64_t n = 0;
  for (const Param* param : unit.params)
    if (param->trained == trained) n += param->numel();
  return n;
}

// A range of a flat buffer in the parameter's shape, folded to (first dimension, rest).
Tensor piece_of(const Tensor& flat, const Param& param) {
  const Tensor piece = flat.range(param.offset, param.numel());
  if (param.shape.size() < 2) return piece;
  const int64_t rows = param.shape[0];
  return piece.view({rows, rows == 0 ? 0 : param.numel() / rows});
}

void draw_uniform(Tensor value, double bound, RandomStream stream) {
  float* data = value.f32();
  for (int64_t i = 0; i < value.numel(); ++i)
    data[i] = static_cast<float>(bound * (2.0 * static_cast<double>(stream.uniform()) - 1.0));
}

// Row y*g+x: the first D/2 channels encode x, the last D/2 y, each as [sin | cos] of the position
// divided by 10000^(i/(D/4)).
void fill_sin_cos_grid(Tensor value) {
  const int64_t grid = std::llround(std::sqrt(static_cast<double>(value.rows())));
  const int64_t quarter = value.cols() / 4;
  ASSERT(grid * grid == value.rows() && quarter * 4 == value.cols(), "{} is not a square grid",
         value.shape_string());
  for (int64_t row = 0; row < value.rows(); ++row) {
    const int64_t places[2] = {row % grid, row / grid};
    float* out = value.f32() + row * value.row_stride();
    for (const int64_t place : places) {
      for (int64_t i = 0; i < quarter; ++i) {
        const double angle =
            static_cast<double>(place) /
            std::pow(10000.0, static_cast<double>(i) / static_cast<double>(quarter));
        out[i] = static_cast<float>(std::sin(angle));
        out[quarter + i] = static_cast<float>(std::cos(angle));
      }
      out += 2 * quarter;
    }
  }
}

}  // namespace

Param whole_of(const Param& param) {
  Param whole = param;
  if (param.is_part()) whole.shape[param.part.axis] = param.part.whole;
  whole.part = {};
  whole.value = whole.grad = Tensor();
  return whole;
}

int ParamTable::begin_unit(std::string name) {
  units_.emplace_back();
  units_.back().name = std::move(name);
  return static_cast<int>(units_.size()) - 1;
}

Param* ParamTable::add(std::string name, std::vector<int64_t> shape, ParamRole role, Init init,
                       int64_t fan_in, ParamPart part) {
  ASSERT(!units_.empty(), "{} is declared before any unit", name);
  ASSERT(values_ == nullptr, "{} is declared after the buffers were laid out", name);
  ASSERT(init != Init::kUniformFanIn || fan_in > 0, "{} needs a fan_in", name);
  ASSERT(init != Init::kXavierUniform || shape.size() == 2, "{} is not a matrix", name);
  ASSERT(find(name) == nullptr, "{} is declared twice", name);
  ASSERT(
      part.whole == 0 || (part.axis < shape.size() && part.begin + shape[part.axis] <= part.whole),
      "{} is no part of {} places", name, part.whole);
  Param& param = params_.emplace_back();
  param.name = std::move(name);
  param.shape = std::move(shape);
  param.role = role;
  param.init = init;
  param.fan_in = fan_in;
  param.part = part;
  param.unit = static_cast<int>(units_.size()) - 1;
  units_.back().params.push_back(&param);
  by_name_.emplace(param.name, &param);
  return &param;
}

int64_t ParamTable::set_trained(std::string_view name_prefix, bool trained) {
  ASSERT(values_ == nullptr, "{} is frozen or unfrozen after the buffers were laid out",
         name_prefix);
  int64_t matched = 0;
  for (Param& param : params_) {
    if (!std::string_view(param.name).starts_with(name_prefix)) continue;
    if (param.constant) continue;
    ++matched;
    param.trained = trained;
  }
  return matched;
}

void ParamTable::place_in(MemoryResource& memory) {
  ASSERT(values_ == nullptr, "the parameters are laid out already");
  memory_ = &memory;
}

void ParamTable::allocate(int64_t pad_elements, Memory memory, DType dtype) {
  ASSERT(values_ == nullptr, "the parameters are laid out already");
  ASSERT(pad_elements >= 1, "padding to multiples of {}", pad_elements);
  dtype_ = dtype;
  values_ = std::make_unique<Arena>("parameters", *memory_);
  const auto lay_out = [&] {
    for (ParamUnit& unit : units_) {
      unit.trained_values = values_->tensor({round_up(elements(unit, true), pad_elements)}, dtype);
      unit.frozen_values = values_->tensor({elements(unit, false)}, dtype);
    }
  };
  lay_out();
  if (memory == Memory::kReal) {
    const int64_t bytes = values_->peak();
    values_->release(0);
    values_->allocate(bytes);
    lay_out();
  }
  for (size_t u = 0; u < units_.size(); ++u) {
    const ParamUnit& unit = units_[u];
    int64_t trained = 0, frozen = 0;
    for (Param* param : unit.params) {
      int64_t& end = param->trained ? trained : frozen;
      param->offset = end;
      end += param->numel();
    }
    bind_values(static_cast<int>(u), unit.trained_values, unit.frozen_values);
    if (memory == Memory::kReal) {
      const int64_t padding = unit.trained_values.numel() - trained;
      zero(unit.trained_values.range(trained, padding));
    }
  }
}

void ParamTable::allocate_gradients(Memory memory) {
  ASSERT(values_ != nullptr && grads_ == nullptr, "gradients come once, after the values");
  grads_ = std::make_unique<Arena>("gradients", *memory_);
  const auto lay_out = [&] {
    for (ParamUnit& unit : units_)
      unit.trained_grads = grads_->tensor({unit.trained_values.numel()});
  };
  lay_out();
  if (memory == Memory::kReal && !values_->measuring()) {
    const int64_t bytes = grads_->peak();
    grads_->release(0);
    grads_->allocate(bytes);
    lay_out();
  }
  for (size_t u = 0; u < units_.size(); ++u)
    bind_gradients(static_cast<int>(u), units_[u].trained_grads);
  zero_gradients();
}

void ParamTable::bind_values(int number, const Tensor& trained, const Tensor& frozen) {
  ParamUnit& unit = units_[static_cast<size_t>(number)];
  ASSERT(trained.numel() == unit.trained_values.numel() &&
             frozen.numel() == unit.frozen_values.numel(),
         "unit {} has {} trained and {} frozen elements, the buffers {} and {}", unit.name,
         unit.trained_values.numel(), unit.frozen_values.numel(), trained.numel(), frozen.numel());
  unit.trained_values = trained;
  unit.frozen_values = frozen;
  for (Param* param : unit.params)
    param->value = piece_of(param->trained ? trained : frozen, *param);
}

void ParamTable::bind_gradients(int number, const Tensor& trained) {
  ParamUnit& unit = units_[static_cast<size_t>(number)];
  ASSERT(trained.numel() == unit.trained_grads.numel(), "unit {} has {} gradients, the buffer {}",
         unit.name, unit.trained_grads.numel(), trained.numel());
  unit.trained_grads = trained;
  for (Param* param : unit.params)
    if (param->trained) param->grad = piece_of(trained, *param);
}

Param* ParamTable::find(std::string_view name) {
  const auto place = by_name_.find(name);
  return place == by_name_.end() ? nullptr : place->second;
}

int64_t ParamTable::trained_elements() const {
  int64_t n = 0;
  for (const ParamUnit& unit : units_) n += elements(unit, true);
  return n;
}

int64_t ParamTable::frozen_elements() const {
  int64_t n = 0;
  for (const ParamUnit& unit : units_) n += elements(unit, false);
  return n;
}

int64_t ParamTable::bytes() const {
  return (values_ ? values_->used() : 0) + (grads_ ? grads_->used() : 0);
}

void ParamTable::draw(Param& param, uint64_t seed) {
  RandomStream stream(seed, param.name);
  float* data = param.value.f32();
  const int64_t n = param.numel();
  switch (param.init) {
    case Init::kZero:
    case Init::kOne:
      for (int64_t i = 0; i < n; ++i) data[i] = param.init == Init::kOne ? 1.0f : 0.0f;
      return;
    case Init::kNormal002:
      for (int64_t i = 0; i < n; ++i) data[i] = static_cast<float>(0.02 * stream.normal());
      return;
    case Init::kUniformFanIn:
      draw_uniform(param.value, 1.0 / std::sqrt(static_cast<double>(param.fan_in)), stream);
      return;
    case Init::kXavierUniform:
      draw_uniform(param.value,
                   std::sqrt(6.0 / static_cast<double>(param.shape[0] + param.shape[1])), stream);
      return;
    case Init::kSinCosGrid: fill_sin_cos_grid(param.value); return;
    case Init::kRowNorms: {
      const Tensor& matrix = param.rows_of->value;
      return row_norms(data, matrix.f32(), matrix.rows(), matrix.cols());
    }
    case Init::kNone:
      fail(ExitCode::kBadData,
           "parameter {} is in none of the model files and has no initialisation rule; give a "
           "model directory that holds it",
           param.name);
  }
}

void ParamTable::row_norms(float* norms, const float* values, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < columns; ++c) {
      const auto value = static_cast<double>(values[r * columns + c]);
      sum += value * value;
    }
    norms[r] = static_cast<float>(std::sqrt(sum));
  }
}

void ParamTable::zero(const Tensor& x) const {
  if (x.numel() > 0) memory_->zero(x.raw(), x.bytes());
}

void ParamTable::zero_gradients() const {
  if (grads_ == nullptr || grads_->measuring()) return;
  for (const ParamUnit& unit : units_) zero(unit.trained_grads);
}

}  // namespace facet
