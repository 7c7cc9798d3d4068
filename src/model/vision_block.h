// One block of a CLIP vision transformer: x += attention(ln1(x)); x += mlp(ln2(x)). Every token of
// an image attends to all tokens of the image. Used by the vision encoder and by the `vit`
// projection.
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
  // Declares root + path + {layer_norm1, self_attn.{q,k,v,out}_proj, layer_norm2, mlp.{fc1,fc2}}.
  // Both end with a dot; LoRA's module name is matched against `path`.
  VisionBlock(ParamTable& table, const std::string& root, const std::string& path,
              const VisionConfig& config, const LoraConfig& lora, const Start& start);

  // What backward needs besides the block's input; N = images * tokens of an image.
  struct Saved {
    Tensor normed1;  // (N,C) ln1(x)
    LayerNorm::Saved norm1;
    Tensor qkv;  // (N,3C)
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
  void mlp_backward(Context& ctx, Tensor dx, const Saved& saved) const;
  void attention_backward(Context& ctx, Tensor dx, Tensor x, const AttentionPlan& plan,
                          const Saved& saved) const;

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
