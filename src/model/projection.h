// The projection from vision features to image tokens of the decoder (--vis_proj; docs/computes.md,
// "The model"): the unit "projection". The kinds are in projection_*.cpp.
#pragma once

#include <memory>

#include "model/config.h"
#include "nn/context.h"
#include "nn/param_table.h"

namespace facet {

class Projection {
 public:
  // Of the kind config.projection; declares the parameters.
  static std::unique_ptr<Projection> make(ParamTable& table, const VlmConfig& config);
  virtual ~Projection() = default;

  bool needs_backward() const;  // one of its parameters is trained

  // Image tokens (I*S,D) in the arena from features (I*vision_tokens,C). With Keep::kForBackward
  // what backward needs lies in the arena beside them (with recompute: nothing), else nothing does;
  // the features must stay. I may be 0: then only the hooks are called.
  Tensor forward(Context& ctx, Tensor features, Keep keep);
  // After a forward with Keep::kForBackward, once. dfeatures (I*vision_tokens,C) is overwritten and
  // may be absent; dtokens (I*S,D) is overwritten as scratch. Announces the unit's gradients.
  void backward(Context& ctx, Tensor dfeatures, Tensor dtokens);
  // In place of backward when the micro-batch has no gradient: the same hooks, no arithmetic.
  void skip_backward(Context& ctx);

 protected:
  Projection(ParamTable& table, const VlmConfig& config);

 private:
  // What is kept goes to the arena and into the object's own members.
  virtual void run(Context& ctx, Tensor tokens, Tensor features) = 0;
  virtual void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) = 0;

  ParamTable& table_;
  int unit_;
  int64_t width_;       // D
  int64_t tokens_in_;   // of an image in the features
  int64_t tokens_out_;  // S
  bool recompute_;
  Tensor features_;  // of the forward in flight
};

// One maker a kind.
std::unique_ptr<Projection> make_baseline_projection(ParamTable& table, const VlmConfig& config);
std::unique_ptr<Projection> make_vit_projection(ParamTable& table, const VlmConfig& config);
std::unique_ptr<Projection> make_perceiver_projection(ParamTable& table, const VlmConfig& config);

}  // namespace facet
