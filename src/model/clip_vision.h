// CLIP's vision transformer (SPEC 1): pixels (I,3,R,R) -> features, the output of the last block
// (or of --vision_feature_layer) without post_layernorm.
//
// Units: vis_encoder.embeddings (with the norms round the blocks), vis_encoder.layers.N. Backward
// goes down only as far as something is trained; below that nothing is kept.
#pragma once

#include <vector>

#include "model/config.h"
#include "model/vision_block.h"
#include "nn/context.h"

namespace facet {

class ClipVision {
 public:
  ClipVision(ParamTable& table, const VlmConfig& config);

  int64_t tokens_per_image() const { return tokens_; }  // of the features: 1+P, or P without class
  // Some gradient is wanted here: the projection must hand its input gradient down.
  bool needs_backward() const;

  // Features (I*tokens_per_image, C) in the arena; with Keep::kForBackward what backward needs lies
  // below them, else nothing does. I may be 0: then only the hooks are called.
  Tensor forward(Context& ctx, Tensor pixels, Keep keep);
  // After a forward with Keep::kForBackward, once. dfeatures as forward's result, undefined when
  // needs_backward() is false. Announces every unit's gradients.
  void backward(Context& ctx, Tensor dfeatures);
  // In place of backward when the micro-batch has no gradient: the same hooks, no arithmetic.
  void skip_backward(Context& ctx);

 private:
  struct Embeddings;  // what backward needs of the embeddings

  void embed(Context& ctx, Tensor x, Tensor embedded, Tensor pixels, LayerNorm::Saved* saved);
  void embed_backward(Context& ctx, Tensor dx);
  Tensor positions(Context& ctx);  // (1+P,C) for this image size
  void position_gradient(Context& ctx, Tensor dposition);
  void run_block(Context& ctx, size_t block, Tensor y, Tensor x, Phase phase,
                 VisionBlock::Saved* saved);
  void drop_class_token(Context& ctx, Tensor features, Tensor x);
  void backward_units(Context& ctx, Tensor dfeatures);
  int64_t lowest_trained() const;  // -1: the embeddings; num_used_: nothing
  bool unit_trained(int unit) const;

  ClipVisionConfig config_;
  int64_t image_size_;
  int64_t patches_;  // P
  int64_t tokens_;
  bool recompute_;
  size_t num_used_;  // blocks up to the feature; those above are declared for export only

  ParamTable& table_;
  int embeddings_unit_;
  std::vector<int> block_units_;
  Param* class_embedding_;
  Param* patch_embedding_;
  Param* position_embedding_;
  std::vector<LayerNorm> norms_;  // pre_layrnorm, post_layernorm
  std::vector<VisionBlock> blocks_;

  // Of the forward in flight.
  AttentionPlan plan_;
  int64_t images_ = 0;
  Tensor pixels_;
  Tensor embedded_;  // (I*(1+P),C) before pre_layrnorm
  LayerNorm::Saved pre_norm_saved_;
  std::vector<Tensor> block_inputs_;  // (I*(1+P),C) each
  std::vector<VisionBlock::Saved> block_saved_;
  Tensor class_free_rows_;  // (I*P) int32: where the features lie among the tokens
};

}  // namespace facet
