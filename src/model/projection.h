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
  // A projection of kind config.projection; declares its parameters.
  static std::unique_ptr<Projection> make(ParamTable& table, const VlmConfig& config);
  virtual ~Projection() = default;

  bool needs_backward() const;  // whether one of its parameters is trained

  // Image tokens (I*S,D) in the arena from features (I*vision_tokens,C). With Keep::kForBackward
  // the arena also keeps what backward needs (with recompute: nothing); the features must stay
  // unchanged. I may be 0: then only the hooks are called.
  Tensor forward(Context& ctx, Tensor features, Keep keep);
  // After a forward with Keep::kForBackward, once. dfeatures (I*vision_tokens,C) is overwritten and
  // may be absent; dtokens (I*S,D) is overwritten as scratch. Announces the unit's gradients.
  void backward(Context& ctx, Tensor dfeatures, Tensor dtokens);
  // Instead of backward if the micro-batch has no gradient: the same hooks, no arithmetic.
  void skip_backward(Context& ctx);

 protected:
  Projection(ParamTable& table, const VlmConfig& config);

 private:
  // What is kept goes into the arena and into members of the object.
  virtual void run(Context& ctx, Tensor tokens, Tensor features) = 0;
  virtual void run_backward(Context& ctx, Tensor dfeatures, Tensor dtokens, Tensor features) = 0;

  ParamTable& table_;
  int unit_;
  int64_t width_;       // D
  int64_t tokens_in_;   // per image, in the features
  int64_t tokens_out_;  // S
  bool recompute_;
  Tensor features_;  // of the current forward
};

// One factory per kind.
std::unique_ptr<Projection> make_baseline_projection(ParamTable& table, const VlmConfig& config);
std::unique_ptr<Projection> make_vit_projection(ParamTable& table, const VlmConfig& config);
std::unique_ptr<Projection> make_perceiver_projection(ParamTable& table, const VlmConfig& config);
std::unique_ptr<Projection> make_mlp_projection(ParamTable& table, const VlmConfig& config);

}  // namespace facet
