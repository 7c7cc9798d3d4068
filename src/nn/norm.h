// Normalisation layers: parameters plus the ops of the same name.
#pragma once

#include <span>
#include <string>

#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

class LayerNorm {
 public:
  // Declares name.weight and name.bias (width).
  LayerNorm(ParamTable& table, const std::string& name, int64_t width, float eps,
            Init weight_init = Init::kNone, Init bias_init = Init::kNone);

  struct Saved {
    Tensor mean, rstd;  // (N) each
  };
  // y, x (N,width). `saved` receives the statistics, allocated in the arena; null: they are
  // scratch.
  void forward(Context& ctx, Tensor y, Tensor x, Saved* saved) const;
  // dx = gradient + dresidual (may be absent); gradients of trained parameters accumulated.
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved,
                Tensor dresidual) const;

  bool any_trained() const;

 private:
  Param* weight_;
  Param* bias_;
  float eps_;
};

class RmsNorm {
 public:
  RmsNorm(ParamTable& table, const std::string& name, int64_t width, float eps);

  struct Saved {
    Tensor rstd;  // (N)
  };
  // And what is asked of y.
  void forward(Context& ctx, Tensor y, Tensor x, Saved* saved,
               std::span<const LoraDown> downs = {}) const;
  // y once more, with the same bits, after a forward that saved.
  void rebuild(Context& ctx, Tensor y, Tensor x, const Saved& saved) const;
  // y, which may be absent, or dy itself: the forward's, once more, with the same bits.
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const Saved& saved, Tensor dresidual,
                Tensor y = Tensor()) const;

  bool any_trained() const;

 private:
  Param* weight_;
  float eps_;
};

}  // namespace facet
