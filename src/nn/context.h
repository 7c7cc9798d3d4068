// What a layer needs to run: the operators, the activation arena, and the hooks of the owner of the
// parameters.
#pragma once

#include <initializer_list>

#include "device/arena.h"
#include "nn/dora_norms.h"
#include "nn/input_buffers.h"
#include "nn/weight_sharing.h"
#include "ops/ops.h"

namespace facet {

// Whether a forward keeps what its backward needs in the arena.
enum class Keep : uint8_t { kNothing, kForBackward };

enum class Phase : uint8_t { kForward, kRecompute, kBackward };

// Called by the model around each unit (ParamTable), never inside a layer. The ZeRO engine
// implements it: gather before, release after, reduce when gradients are ready. The model knows
// nothing of ranks.
class UnitHooks {
 public:
  virtual ~UnitHooks() = default;
  virtual void before(int unit, Phase phase) { (void)unit, (void)phase; }
  virtual void after(int unit, Phase phase) { (void)unit, (void)phase; }
  // Exactly once per unit and micro-batch on every rank, after the last use of the unit's gradients
  // in backward, also when the micro-batch did not use the unit at all. The default does nothing.
  virtual void gradients_ready(int unit) { (void)unit; }
  // The output of a pass through the unit: activations in forward, the gradient of the input in
  // backward. For the search for the first non-finite number.
  virtual void wrote(int unit, Phase phase, const Tensor& x) { (void)unit, (void)phase, (void)x; }
};

struct Context {
  Backend& ops;
  Arena& arena;
  UnitHooks& hooks;
  // Type of activations and their gradients between layers. Always fp32: statistics of norms and
  // softmax, losses, rotations, pixels, gradients of parameters.
  DType dtype = DType::kF32;
  InputBuffers* inputs = nullptr;  // of micro-batches; nullptr: they are in the arena
  // Products of few rows are then those that are made for them; in training all are of one kind.
  bool decoding = false;

  void linear_forward(Tensor y, Tensor x, Tensor weight, Tensor bias, Tensor residual) const {
    if (decoding && x.rows() <= kFewRows)
      ops.linear_few_rows_forward(y, x, weight, bias, residual);
    else
      ops.linear_forward(y, x, weight, bias, residual);
  }
  WeightGroup* group = nullptr;  // of a model whose weights are shared, unless it is measured
  DoraNorms* norms = nullptr;    // where no weight changes, without backward; else found each time

  // A micro-batch begins, and a tensor that it brings from the host.
  void begin_inputs() const {
    if (inputs != nullptr) inputs->begin();
  }
  Tensor input(std::initializer_list<int64_t> shape, DType type, const void* host) const {
    if (inputs != nullptr) return inputs->copy(shape, type, host);
    const Tensor y = arena.tensor(shape, type);
    if (y.numel() > 0) ops.copy_from_host(y, host);
    return y;
  }

  Tensor activation(std::initializer_list<int64_t> shape) const {
    return arena.tensor(shape, dtype);
  }
  // (rows, cols) whose rows all begin on 16-byte boundaries, whatever cols is: tensor cores need
  // it.
  Tensor activation_with_aligned_rows(int64_t rows, int64_t cols) const {
    const int64_t pack = 16 / size_of(dtype);
    return activation({rows, (cols + pack - 1) / pack * pack}).column_block(0, cols);
  }
};

}  // namespace facet
