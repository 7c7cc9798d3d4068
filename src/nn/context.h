// What a layer needs to run: the operators, the activation arena, and the hooks of whoever owns the
// parameters.
#pragma once

#include <initializer_list>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

// Does a forward keep in the arena what its backward needs?
enum class Keep : uint8_t { kNothing, kForBackward };

enum class Phase : uint8_t { kForward, kRecompute, kBackward };

// Called by the model round each unit (ParamTable), never inside a layer. The ZeRO engine
// implements it: gather before, release after, reduce when gradients are ready. The model knows no
// rank.
class UnitHooks {
 public:
  virtual ~UnitHooks() = default;
  virtual void before(int unit, Phase phase) { (void)unit, (void)phase; }
  virtual void after(int unit, Phase phase) { (void)unit, (void)phase; }
  // Exactly once per unit and micro-batch on every rank, after the last use of the unit's gradients
  // in backward, also when the micro-batch did not use the unit at all. The default does nothing.
  virtual void gradients_ready(int unit) { (void)unit; }
  // What a pass through the unit hands on: activations forward, in backward the gradient of those
  // that entered. For who looks for the first number that is not finite.
  virtual void wrote(int unit, Phase phase, const Tensor& x) { (void)unit, (void)phase, (void)x; }
};

struct Context {
  Backend& ops;
  Arena& arena;
  UnitHooks& hooks;
  // Of what a layer hands to the next, forward and backward. Fp32 whatever this says: statistics
  // of norms and softmax, losses, rotations, pixels, gradients of parameters.
  DType dtype = DType::kF32;

  Tensor activation(std::initializer_list<int64_t> shape) const {
    return arena.tensor(shape, dtype);
  }
  // (rows, cols) whose rows all begin on 16-byte boundaries, whatever cols is: tensor cores want
  // it.
  Tensor activation_with_aligned_rows(int64_t rows, int64_t cols) const {
    const int64_t pack = 16 / size_of(dtype);
    return activation({rows, (cols + pack - 1) / pack * pack}).column_block(0, cols);
  }
};

}  // namespace facet
