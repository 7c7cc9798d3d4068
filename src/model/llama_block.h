// One block of the decoder: x += o(attention(rope(qkv(norm(x))))); x +=
// down(swiglu(gate|up(norm(x)))).
#pragma once

#include <span>
#include <string>

#include "model/config.h"
#include "nn/context.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/param_table.h"

namespace facet {

// The rows that the last block computes an output for, R of them, increasing.
struct AskedRows {
  Tensor rows = {};                     // (R) int32; undefined: all
  const AttentionPlan* plan = nullptr;  // of their queries and all keys, with the block's window
  Tensor cos = {}, sin = {};            // (R,E/2)

  bool defined() const { return rows.defined(); }
  int64_t count() const { return rows.numel(); }
};

// Shared by all blocks of a pass: the attention plan, the one of layers with a window (the same
// where the window hides nothing), and the rotation of each row, (N,E/2).
struct DecoderRows {
  const AttentionPlan& plan;
  const AttentionPlan& window_plan;
  Tensor cos, sin;
  AskedRows asked = {};
  // Where the blocks, one after the other, compute what they rebuild in backward: outputs of norms
  // (N,D) and of the activation (N,F), in place of their gradients. Undefined: each block keeps its
  // own.
  Tensor normed = {}, activated = {};
};

// Rows [from, from + count) of what is computed, and where they begin in a cache.
struct StoredRows {
  int32_t from = 0, to = 0, count = 0;
};

enum class InputGradient : uint8_t { kNotNeeded, kNeeded };

class LlamaBlock {
 public:
  // Declares "model.layers.<layer>." under `root` "lang_decoder.".
  LlamaBlock(ParamTable& table, const std::string& root, int64_t layer, const LlamaConfig& config,
             const LoraConfig& lora);

  // What backward needs besides the block's input.
  struct Saved {
    Tensor normed1;  // (N,D); like normed2 and activated perhaps the memory that blocks share
    RmsNorm::Saved norm1;
    Tensor k, v;                    // (N,G*E), k rotated
    PackedLinear::Saved qkv_saved;  // of k and v alone with rows asked for
    // Of the rows asked for, R = N if that is all of them.
    Tensor normed_asked;          // (R,D) only with rows asked for
    Tensor q;                     // (R,H*E) rotated
    PackedLinear::Saved q_saved;  // only with rows asked for
    Tensor lse;                   // (statistics,H,R)
    Tensor attended;              // (R,H*E)
    Tensor attended_part;         // (R,H*E) only with two slots: the smaller part
    PackedLinear::Saved out_saved;
    Tensor middle;   // (R,D) x after attention
    Tensor normed2;  // (R,D)
    RmsNorm::Saved norm2;
    Tensor gate_up;    // (R,2F)
    Tensor activated;  // (R,F)
    PackedLinear::Saved gate_up_saved;
    PackedLinear::Saved down_saved;
  };
  // With rows.asked, keys and values are still those of all rows; queries, and what follows
  // attention, are computed for the rows asked for.
  //
  // x (N,D), y (R,D). `saved` is kept in the arena; null: y may be x, if all rows are asked for,
  // and all scratch is released.
  void forward(Context& ctx, Tensor y, Tensor x, const DecoderRows& rows, Saved* saved) const;
  // Recomputes `saved` from the block's input.
  void recompute(Context& ctx, Tensor x, const DecoderRows& rows, Saved& saved) const;
  // dx (N,D): the gradient of the input (kNotNeeded: undefined). dy (R,D): that of the output,
  // overwritten; if all rows are asked for it is dx.
  void backward(Context& ctx, Tensor dx, Tensor dy, Tensor x, const DecoderRows& rows,
                const Saved& saved, InputGradient input_gradient) const;

  // Decoding: x (n,D) in place. Its keys and values go to this block's k and v (rows,G*E), to the
  // places that `stored` names; rows.plan: n queries over the first rows.plan.pool_rows of k and v.
  struct Cache {
    Tensor k, v;
  };
  void append(Context& ctx, Tensor x, const DecoderRows& rows, const Cache& cache,
              std::span<const StoredRows> stored) const;

  bool any_trained() const;
  int64_t cache_width() const { return kv_heads_ * head_dim_; }

 private:
  struct Shares;
  LlamaBlock(ParamTable& table, const std::string& root, int64_t layer, const LlamaConfig& config,
             const LoraConfig& lora, const Shares& shares);
  void project(Context& ctx, Tensor x, const DecoderRows& rows, Saved& saved, Keep keep) const;
  void project_asked(Context& ctx, const DecoderRows& rows, const LoraDowns& downs, Saved& saved,
                     Keep keep) const;
  void attend(Context& ctx, Tensor k, Tensor v, const DecoderRows& rows, Saved& saved) const;
  // From attention's output to the input of `down`, and what LoRA needs of it.
  LoraDowns finish_attention(Context& ctx, Tensor x, const DecoderRows& rows, Saved& saved,
                             Keep keep) const;
  // (n,columns) of the memory that blocks share, or of the block's own.
  static Tensor shared_or_own(Context& ctx, const Tensor& shared, int64_t n, int64_t columns) {
    return shared.defined() ? shared.row_block(0, n) : ctx.activation({n, columns});
  }
  // What backward computes again: x in the memory that blocks share, for the gradients of a layer
  // that trains something.
  static Tensor rebuilt(const Tensor& shared, const Tensor& x, const PackedLinear& layer) {
    return shared.defined() && layer.any_trained() ? x : Tensor();
  }
  void mlp_backward(Context& ctx, Tensor dy, const DecoderRows& rows, const Saved& saved) const;
  // dy (R,D): the gradient of `middle`; dq and dk are those of queries and keys before the
  // rotation.
  void attention_backward(Context& ctx, Tensor dq, Tensor dk, Tensor dv, Tensor dy,
                          const DecoderRows& rows, const Saved& saved) const;
  // dnormed (N,D), overwritten, absent if not needed: the gradient of `normed1`. What reads that
  // for gradients of parameters, q, k and v or with rows asked for k and v, is halfway then.
  PackedLinear::Halfway project_backward(Context& ctx, Tensor dnormed, Tensor dy,
                                         const DecoderRows& rows, const Saved& saved) const;
  PackedLinear::Halfway project_asked_backward(Context& ctx, Tensor dnormed, Tensor dy,
                                               const DecoderRows& rows, const Saved& saved) const;
  const AttentionPlan& plan_of(const DecoderRows& rows) const {
    if (rows.asked.defined()) return *rows.asked.plan;
    return has_window_ ? rows.window_plan : rows.plan;
  }
  // Of the columns of q|k|v, or of k|v, where keys begin.
  Tensor key(const Tensor& x, int64_t begin) const {
    return x.column_block(begin, kv_heads_ * head_dim_);
  }
  Tensor value(const Tensor& x, int64_t begin) const {
    return x.column_block(begin + kv_heads_ * head_dim_, kv_heads_ * head_dim_);
  }

  // H, G, E, D, F; of H, G and F those of this rank.
  int64_t heads_, kv_heads_, head_dim_, width_, mlp_width_;
  float scale_;  // 1/sqrt(E)
  bool has_window_;
  // Parameters are declared in the order of these members.
  RmsNorm norm1_;
  PackedLinear qkv_;
  PackedLinear q_, kv_;  // parts of it
  PackedLinear out_;
  RmsNorm norm2_;
  PackedLinear gate_up_;
  PackedLinear down_;
};

}  // namespace facet
