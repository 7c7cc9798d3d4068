// The projection from vision features to image tokens of the decoder (--vis_proj, SPEC 1): a unit
// of its own, "projection".
#pragma once

#include <memory>

#include "model/config.h"
#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

class Projection {
 public:
  // baseline, vit or perceiver as config.projection says; declares the parameters.
  static std::unique_ptr<Projection> make(ParamTable& table, const VlmConfig& config);
  virtual ~Projection() = default;

  bool needs_backward() const;  // one of its parameters is trained

  // Image tokens (I*S,D) in the arena from features (I*tokens,C); with Keep::kForBackward what
  // backward needs lies below them, else nothing does. I may be 0: then only the hooks are called.
  Tensor forward(Context& ctx, Tensor features, Keep keep);
  // After a forward with Keep::kForBackward, once. dfeatures (I*tokens,C) is overwritten and may be
  // absent; dtokens (I*S,D) may be overwritten. Announces the unit's gradients.
  void backward(Context& ctx, Tensor dfeatures, Tensor dtokens);
  // In place of backward when the micro-batch has no gradient: the same hooks, no arithmetic.
  void skip_backward(Context& ctx);

 protected:
  Projection(ParamTable& table, const VlmConfig& config);

 private:
  // `tokens` is the result; what is kept goes to the arena and into the object's own members.
  virtual void run(Context& ctx, Tensor tokens, Tensor features, int64_t images, Keep keep) = 0;
  virtual void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features,
                            int64_t images) = 0;

  ParamTable& table_;
  int unit_;
  int64_t width_;       // D
  int64_t tokens_in_;   // tokens of an image in the features
  int64_t tokens_out_;  // S
  bool recompute_;
  Tensor features_;  // of the forward in flight
  int64_t images_ = 0;
};

}  // namespace facet
