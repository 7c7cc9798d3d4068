// One block of a CLIP vision transformer: x += attention(ln1(x)); x += mlp(ln2(x)). Every token of
// an image sees every other one. Used by the vision encoder and by the `vit` projection.
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
  // Declares root + path + {layer_norm1, self_attn.{q,k,v,out}_proj, layer_norm2, mlp.{fc1,fc2}}.
  // `path` ends with a dot and is what LoRA's module name is looked for in.
  VisionBlock(ParamTable& table, const std::string& root, const std::string& path,
              const ClipVisionConfig& config, const LoraConfig& lora, Init linear_init,
              Init norm_weight_init, Init norm_bias_init);

  // What backward needs besides the block's input; N = images * tokens of an image.
  struct Saved {
    Tensor normed1;  // (N,C) ln1(x)
    LayerNorm::Saved norm1;
    Tensor qkv;  // (N,3C)
    PackedLinear::Saved qkv_saved;
    Tensor lse;       // (1,H,N)
    Tensor attended;  // (N,C) attention's output before out_proj
    PackedLinear::Saved out_saved;
    Tensor middle;   // (N,C) x after attention
    Tensor normed2;  // (N,C) ln2(middle)
    LayerNorm::Saved norm2;
    Tensor hidden;     // (N,F) fc1's output
    Tensor activated;  // (N,F)
    PackedLinear::Saved fc1_saved;
    PackedLinear::Saved fc2_saved;
  };
  // y, x (N,C), y is not x. Everything in `saved` comes from the arena and stays there; null: all
  // scratch is given back.
  void forward(Context& ctx, Tensor y, Tensor x, const AttentionPlan& plan, Saved* saved) const;
  // dx (N,C) overwritten, may be absent and may not be dy; dy (N,C) is overwritten as scratch.
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const AttentionPlan& plan,
                const Saved& saved) const;

 private:
  void attention_backward(Context& ctx, Tensor dx, Tensor dmiddle, Tensor x,
                          const AttentionPlan& plan, const Saved& saved) const;

  int64_t width_;
  int64_t mlp_width_;
  int64_t heads_;
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
