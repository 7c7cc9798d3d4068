// Learned queries that read an image's patches by one multi-head attention with heads of width 128:
// the perceiver of --vis_proj and the resampler of Qwen-VL's vision encoder (Bai et al., 2023). The
// query side does not depend on the image: it is computed once per micro-batch.
#pragma once

#include <string>

#include "nn/context.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/param_table.h"

namespace facet {

class AttentionPool {
 public:
  static constexpr int64_t kHeadWidth = 128;  // D must be a multiple of it

  // How the parameters are initialised if no file provides them.
  struct Start {
    Init positions = Init::kNone;
    Init query = Init::kNone;
    Init linear = Init::kNone;
    Init in_proj = Init::kNone;
    Init bias = Init::kNone;
    Init norm_weight = Init::kNone;
    Init norm_bias = Init::kNone;
  };
  struct Shape {
    int64_t queries = 0;  // Q; a square, as the positions are of a grid
    int64_t patches = 0;  // P of an image; positions are resized to its grid where it is not Q
    int64_t inputs = 0;   // C
    int64_t width = 0;    // D
    float eps = 0;
    PackedLinear::Bias kv_bias = PackedLinear::Bias::kPresent;
  };
  // Declares root + path + {pos_embed,query (Q,D), kv_proj, attn.{in_proj_weight,in_proj_bias,
  // out_proj}, ln_q, ln_kv}. Both end with a dot or are empty.
  AttentionPool(ParamTable& table, const std::string& root, const std::string& path,
                const Shape& shape, const Start& start);

  Param& positions() { return *pos_embed_; }

  // pooled (I*Q,D), features (I*P,C). What backward needs is kept in the arena and in the object.
  void forward(Context& ctx, Tensor pooled, Tensor features);
  // After a forward, once. dfeatures (I*P,C) is overwritten and may be absent.
  void backward(Context& ctx, Tensor dfeatures, Tensor dpooled, Tensor features);

 private:
  // A third of in_proj: for the query, the key or the value.
  enum Third : int64_t { kQuery, kKey, kValue };

  void run_queries(Context& ctx, int64_t images);
  void run_keys(Context& ctx, Tensor features);
  void queries_backward(Context& ctx, Tensor dqueries);
  void keys_backward(Context& ctx, Tensor dfeatures, Tensor dkeys, Tensor dvalues, Tensor features);
  void key_positions_backward(Context& ctx, Tensor dkey_in);

  Tensor key_positions(Context& ctx) const;  // (P,D)
  void in_proj(Context& ctx, Third third, Tensor y, Tensor x) const;
  void in_proj_backward_weight(Context& ctx, Third third, Tensor dy, Tensor x) const;
  Tensor third_of_weight(const Tensor& weight, Third third) const {
    return weight.row_block(third * width_, width_);
  }

  int64_t queries_count_;  // Q
  int64_t patches_;        // P
  int64_t width_;          // D
  int64_t heads_;
  float scale_;
  Param* pos_embed_;
  Param* query_;
  PackedLinear kv_proj_;
  Param* in_proj_weight_;  // (3D,D) rows of q, k, v
  Param* in_proj_bias_;    // (3D)
  PackedLinear out_proj_;
  LayerNorm norm_q_;
  LayerNorm norm_kv_;

  // Of the current forward.
  AttentionPlan plan_;
  Tensor query_in_;       // (Q,D) ln_q(query) + pos
  Tensor queries_;        // (I*Q,D)
  Tensor kv_;             // (I*P,D) before ln_kv
  Tensor value_in_;       // (I*P,D) ln_kv(kv)
  Tensor key_in_;         // (I*P,D) value_in + positions
  Tensor keys_, values_;  // (I*P,D)
  Tensor lse_;            // (1,H,I*Q)
  Tensor attended_;       // (I*Q,D)
  PackedLinear::Saved kv_saved_, out_proj_saved_;
  LayerNorm::Saved norm_q_saved_, norm_kv_saved_;
};

}  // namespace facet
