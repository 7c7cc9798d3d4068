// The vision transformer of any family (vision_family.h; docs/computes.md, "The model"): pixels
// (I,3,R,R) -> features, the output of the last block (or of --vision_feature_layer), for some
// families through post_layernorm, for Qwen-VL through its pool first.
//
// Units: vis_encoder.embeddings, vis_encoder.layers.N, vis_encoder.post_layernorm where it is part
// of the feature, vis_encoder.attn_pool with the pool and its norm. Backward goes down only to the
// lowest trained parameter; below it nothing is kept.
#pragma once

#include <optional>
#include <vector>

#include "base/micro_batch.h"
#include "model/attention_pool.h"
#include "model/config.h"
#include "model/vision_block.h"
#include "nn/context.h"

namespace facet {

// Whether passes go through the encoder's units. At rest not even the hooks of its forward are
// called, so that partitioned parameters are not gathered: for micro-batches all of whose images
// are given.
enum class VisionWork : uint8_t { kCalled, kAtRest };

class VisionEncoder {
 public:
  VisionEncoder(ParamTable& table, const VlmConfig& config);

  // Something is trained here: the projection must compute its input gradient.
  bool needs_backward() const;

  // Features (I*vision_tokens, feature_width) in the arena. With Keep::kForBackward the arena also
  // keeps what backward needs. I may be 0: then only the hooks are called.
  Tensor forward(Context& ctx, Tensor pixels, Keep keep);
  // After a forward with Keep::kForBackward, once. dfeatures (overwritten as scratch) has the shape
  // of forward's result; it is not read when needs_backward() is false. Announces every unit's
  // gradients.
  void backward(Context& ctx, Tensor dfeatures);
  // Instead of backward if the micro-batch has no gradient: the same hooks, no arithmetic.
  void skip_backward(Context& ctx);

  // The same features of a micro-batch's images (I of them, or 0 to leave them all out): those that
  // are given are taken over, and forward runs on the others. What it computes is told to the sink,
  // if there is one and the images have keys.
  Tensor see(Context& ctx, const MicroBatch& batch, int64_t images, Keep keep, FeatureSink* sink);
  void set_work(VisionWork work) { work_ = work; }

 private:
  int64_t class_tokens() const { return config_.traits().class_token ? 1 : 0; }
  int64_t tokens() const { return class_tokens() + patches_; }  // per image inside the encoder
  int64_t tokens_out() const { return tokens_out_; }            // per image, of a feature
  // Blocks up to the feature, then post_layernorm if that is part of it without a pool.
  int64_t num_stages() const { return num_used_ + (post_norm_ && !pool_ ? 1 : 0); }
  bool trains_pool() const;
  // The rows of the images [begin, begin + group_) in a matrix of all images'.
  Tensor group_of(const Tensor& rows, int64_t begin) const;
  Tensor pixels_of_group(int64_t begin) const;
  Tensor see_pixels(Context& ctx, const MicroBatch& batch, int64_t images, Keep keep,
                    FeatureSink* sink);
  void tell(Context& ctx, const ImageFeatures& features, const Tensor& computed, FeatureSink& sink);
  void join(Context& ctx, const ImageFeatures& features, const Tensor& computed, const Tensor& all);
  Tensor features_given(const Context& ctx, const ImageFeatures& features, int64_t images) const;
  void declare_blocks(ParamTable& table, const LoraConfig& lora);
  void declare_post_norm(ParamTable& table, bool in_feature);
  void declare_pool(ParamTable& table);
  // The lowest trained stage, -1 if the embeddings are trained; num_stages() if nothing is trained.
  int64_t lowest_trained() const;

  void run_embeddings(Context& ctx, Tensor x, Keep keep);
  void embed(Context& ctx, Tensor x, int64_t image) const;
  Tensor positions(Context& ctx) const;  // (tokens,C) for this image size
  void run_stage(Context& ctx, int64_t stage, Tensor y, Tensor x, Keep keep);
  void run_block(Context& ctx, int64_t block, Tensor y, Tensor x, Keep keep);
  void run_post_norm(Context& ctx, Tensor y, Tensor x);
  void run_pool(Context& ctx, Tensor features, Tensor x, Keep keep);
  void run_below(Context& ctx, int64_t end, Tensor x);
  void run_kept(Context& ctx, int64_t lowest, Tensor result);
  Tensor without_class_token(const Tensor& rows, int64_t image) const;

  void backward_from_pool(Context& ctx, Tensor dfeatures);
  void pool_backward(Context& ctx, Tensor dx, Tensor dfeatures);
  void walk_backward(Context& ctx, Tensor dx);
  void post_norm_backward(Context& ctx, Tensor dx);
  void block_backward(Context& ctx, int64_t block, Tensor dx);
  void embeddings_backward(Context& ctx, Tensor dx);
  void patches_backward(Context& ctx, Tensor dprojected);
  void position_backward(Context& ctx, Tensor dposition);

  VisionConfig config_;
  int64_t image_size_;  // R
  int64_t patches_;     // P for this image size
  bool drops_class_token_;
  int64_t tokens_out_;
  bool recompute_;
  bool image_by_image_;
  int64_t num_used_;  // blocks up to the feature; those above are only declared for export

  ParamTable& table_;
  int embeddings_unit_;
  Param* class_embedding_;  // nullptr in a family without one
  Param* patch_embedding_;
  Param* patch_bias_;  // likewise
  Param* position_embedding_;
  std::optional<LayerNorm> pre_norm_;
  std::vector<VisionBlock> blocks_;
  std::vector<int> block_units_;
  std::optional<AttentionPool> pool_;   // in its unit lies post_norm_ too
  std::optional<LayerNorm> post_norm_;  // only where it is part of the feature
  int post_norm_unit_ = kNoUnit;

  VisionWork work_ = VisionWork::kCalled;

  // Of the current forward.
  int64_t images_ = 0;
  int64_t group_ = 0;                 // images that an operator works on at a time: all, or 1
  AttentionPlan plan_;                // of a group
  Tensor pixels_;                     // (I,3,R,R)
  Tensor embedded_;                   // (I*tokens,C) before pre_layrnorm
  LayerNorm::Saved pre_norm_saved_;   // of embedded_
  std::vector<Tensor> stage_inputs_;  // (I*tokens,C) each
  std::vector<VisionBlock::Saved> block_saved_;
  LayerNorm::Saved post_norm_saved_;
  Tensor pool_input_;  // (I*P,C)
  Tensor pooled_;      // (I*Q,D) before post_norm_

  std::vector<std::byte> told_;  // features of a micro-batch in host memory
};

}  // namespace facet
