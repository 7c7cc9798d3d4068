// The composed model on 16-bit storage: parameters and activations of bf16 or fp16. Every rig has
// the values of the other types' rigs, rounded to `rounding`, so that what differs between an fp32
// rig and a 16-bit one are the activations alone.
#pragma once

#include <string>
#include <vector>

#include "base/half.h"
#include "ops/half_storage.h"
#include "ops/null_backend.h"
#include "tests/model/language_rig.h"

namespace facet::half_rig {

inline void set_rounded(const Tensor& value, const vision_rig::Mat& m, DType rounding) {
  for (int64_t i = 0; i < value.numel(); ++i) {
    const uint16_t word =
        round_to_16_bits(static_cast<float>(m.a[static_cast<size_t>(i)]), rounding);
    if (value.dtype() == DType::kF32)
      value.f32()[i] = float_from_16_bits(word, rounding);
    else
      value.bits16()[i] = word;
  }
}

struct HalfRig {
  HalfRig(const VlmConfig& config, DType dtype, DType rounding, const std::string& trained = "")
      : model(config, table), dtype(dtype) {
    if (trained != "default") table.set_trained(trained, true);
    table.allocate(1, ParamTable::Memory::kReal, dtype);
    table.allocate_gradients();
    for (Param& param : table.params())
      set_rounded(param.value, vision_rig::random_param(param), rounding);
  }
  HalfRig(const VlmConfig& config, DType dtype, const std::string& trained = "")
      : HalfRig(config, dtype, dtype, trained) {}

  LossSums train(const MicroBatch& batch, float gradient_scale = 1) {
    LossSums sums;
    model.forward_backward(ctx, batch, gradient_scale, sums);
    return sums;
  }
  std::vector<float> logits(const MicroBatch& batch) {
    std::vector<float> result;
    model.all_logits(ctx, batch, result);
    return result;
  }
  std::vector<float> gradients() const {
    std::vector<float> result;
    for (const Param& param : table.params())
      if (param.trained)
        result.insert(result.end(), param.grad.f32(), param.grad.f32() + param.numel());
    return result;
  }

  ParamTable table;
  VisionLanguageModel model;
  DType dtype;
  CpuBackend cpu{1};
  HalfStorage ops{cpu, int64_t{64} << 20};
  Arena arena{"activations", int64_t{64} << 20};
  UnitHooks hooks;
  Context ctx{ops, arena, hooks, dtype};
};

// The largest of a pass as a dry run finds it.
struct Measured {
  int64_t activations = 0, panels = 0;
};
inline Measured measure(const VlmConfig& config, DType dtype, const MicroBatch& batch) {
  ParamTable table;
  VisionLanguageModel model(config, table);
  table.set_trained("", true);
  table.allocate(1, ParamTable::Memory::kMeasureOnly, dtype);
  table.allocate_gradients();
  NullBackend nothing;
  HalfStorage ops(nothing);
  Arena arena("activations");
  UnitHooks hooks;
  Context ctx{ops, arena, hooks, dtype};
  LossSums sums;
  model.forward_backward(ctx, batch, 1, sums);
  return {arena.peak(), ops.panel_bytes()};
}

}  // namespace facet::half_rig
