// One block of a vision transformer: x += attention(ln1(x)); x += mlp(ln2(x)). Every token of an
// image attends to all tokens of the image. Used by the vision encoder and by the `vit` projection.
#pragma once

#include <string>

#include "model/config.h"
#include "nn/context.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/param_table.h"

namespace facet {

class VisionBlock {
 public:
  // How the parameters are initialised if no file provides them.
  struct Start {
    Init linear = Init::kNone;
    Init norm_weight = Init::kNone;
    Init norm_bias = Init::kNone;
  };
  // Declares, below root + path, two norms and the linears of attention and mlp under the family's
  // names (VisionNames). Both end with a dot; LoRA's module name is matched against `path`.
  VisionBlock(ParamTable& table, const std::string& root, const std::string& path,
              const VisionConfig& config, const LoraConfig& lora, const Start& start);

  // What backward needs besides the block's input; N = images * tokens of an image.
  struct Saved {
    Tensor normed1;  // (N,C) ln1(x)
    LayerNorm::Saved norm1;
    Tensor qkv;  // (N,3C) as qkv_ makes it
    PackedLinear::Saved qkv_saved;
    Tensor attended;  // (N,C) attention's output before out_proj
    Tensor lse;       // (1,H,N)
    PackedLinear::Saved out_saved;
    Tensor middle;   // (N,C) x after attention
    Tensor normed2;  // (N,C) ln2(middle)
    LayerNorm::Saved norm2;
    Tensor hidden;     // (N,F) fc1's output
    Tensor activated;  // (N,F)
    PackedLinear::Saved fc1_saved;
    PackedLinear::Saved fc2_saved;
  };
  // y, x (N,C), y is not x. `saved` points into the arena; without `keep` the arena is left as
  // before.
  void forward(Context& ctx, Tensor y, Tensor x, const AttentionPlan& plan, Saved& saved,
               Keep keep) const;
  // dx (N,C): on entry the gradient of the output, on return that of the input x.
  void backward(Context& ctx, Tensor dx, Tensor x, const AttentionPlan& plan,
                const Saved& saved) const;

 private:
  // Of all heads, (N,C) each.
  struct Heads {
    Tensor q, k, v;
  };
  Heads make_heads(Context& ctx, const Tensor& qkv) const;
  Heads heads_of(Context& ctx, const Tensor& qkv) const;
  void put_heads(Context& ctx, const Tensor& qkv, const Heads& heads) const;
  // Part 0, 1 or 2 (q, k, v) of a qkv that lies head by head, (N*H,E).
  Tensor part_by_head(const Tensor& qkv, int64_t part) const;

  void mlp_backward(Context& ctx, Tensor dx, const Saved& saved) const;
  void attention_backward(Context& ctx, Tensor dx, Tensor x, const AttentionPlan& plan,
                          const Saved& saved) const;

  int64_t width_;
  int64_t mlp_width_;
  int64_t heads_;
  bool by_head_;  // qkv's columns are q, k and v of the first head, then of the second, ...
  Activation activation_;
  float scale_;  // 1/sqrt(E)
  LayerNorm norm1_;
  PackedLinear qkv_;
  PackedLinear out_;
  LayerNorm norm2_;
  PackedLinear fc1_;
  PackedLinear fc2_;
};

}  // namespace facet
