// The decoder (LLaMA), from spliced rows to the loss of the labelled ones: blocks, final norm,
// head.
//
// Units: lang_decoder.embed_tokens (untied: for import, export and generation with --compat
// visualchat only), lang_decoder.layers.N, lang_decoder.head (final norm, head; tied: embed_tokens
// too). In training the head visits its unit once, in Phase::kBackward, because the loss and its
// gradient are computed chunk by chunk.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/llama_block.h"
#include "nn/context.h"
#include "nn/norm.h"
#include "nn/param_table.h"

namespace facet {

// Labelled rows of one micro-batch.
struct LossTargets {
  Tensor rows;    // (R) int32: rows of the decoder's input, distinct
  Tensor labels;  // (R) int32
};

class LlamaDecoder {
 public:
  LlamaDecoder(ParamTable& table, const VlmConfig& config);

  size_t num_blocks() const { return blocks_.size(); }
  // The decoder's own table of token rows (V,D), which training leaves alone, and its unit.
  const Param& own_tokens() const { return *own_tokens_; }
  int own_tokens_unit() const { return embed_unit_ >= 0 ? embed_unit_ : head_unit_; }

  // Hidden states (R,D) before the final norm of the rows asked for, from spliced rows x (N,D),
  // which may be overwritten. N may be 0: then only the hooks are called. With Keep::kForBackward
  // everything down to the lowest block that backward reaches is kept in the arena; input_gradient
  // says whether backward continues below the blocks.
  Tensor forward(Context& ctx, Tensor x, const DecoderRows& rows, Keep keep,
                 InputGradient input_gradient);
  // Loss (R) of each label from hidden states (R,D). R may be 0.
  void loss(Context& ctx, Tensor row_loss, Tensor hidden, Tensor labels);
  // After a forward with Keep::kForBackward: the same, and the gradients of gradient_scale *
  // sum(loss) down to dhidden (R,D), overwritten (undefined if nothing below the head is trained).
  // Announces the head's gradients.
  void loss_and_gradient(Context& ctx, Tensor row_loss, Tensor dhidden, Tensor hidden,
                         Tensor labels, float gradient_scale);
  // Whether backward continues below the head.
  bool blocks_need_backward(InputGradient input_gradient) const;
  // Through the blocks, once after a forward with Keep::kForBackward: from dhidden (R,D), which is
  // overwritten, to the gradient dx (N,D) of x. Undefined dx: no gradients, only the hooks are
  // called.
  void backward(Context& ctx, Tensor dx, Tensor dhidden, const DecoderRows& rows);

  int64_t cache_width() const { return blocks_.front().cache_width(); }
  // Logits (n,V) of hidden states (n,D).
  void logits(Context& ctx, Tensor logits, Tensor hidden);
  // Decoding: rows x (n,D), in place; LlamaBlock::append with one cache per block.
  void append(Context& ctx, Tensor x, const DecoderRows& rows,
              const std::vector<LlamaBlock::Cache>& caches, std::span<const StoredRows> stored);

 private:
  // The head on a chunk of rows; cross-entropy overwrites logits with their gradient.
  struct Chunk {
    Tensor normed;  // (count,D)
    Tensor logits;  // (count,V)
    RmsNorm::Saved norm;
  };
  size_t lowest_block(InputGradient input_gradient) const;  // that backward reaches
  // Every block but the last computes all rows: the next one's keys and values need them.
  DecoderRows rows_of(size_t block, const DecoderRows& rows) const {
    const bool is_last = block + 1 == blocks_.size();
    DecoderRows mine = {rows.plan, rows.window_plan, rows.cos, rows.sin,
                        is_last ? rows.asked : AskedRows()};
    if (block < first_kept_) return mine;
    mine.normed = normed_;
    mine.activated = activated_;
    return mine;
  }
  void backward_block(Context& ctx, size_t block, Tensor dx, Tensor dy, const DecoderRows& rows);
  Chunk run_chunk(Context& ctx, Tensor hidden) const;
  void project(Context& ctx, Tensor logits, Tensor normed) const;
  void chunk_backward(Context& ctx, Tensor dx, Tensor x, const Chunk& chunk) const;

  LlamaConfig config_;
  bool recompute_, rebuild_;
  int64_t rows_per_chunk_;
  std::vector<LlamaBlock> blocks_;
  std::vector<int> block_units_;
  int embed_unit_ = -1;  // -1: tied
  int head_unit_ = -1;
  Param* own_tokens_ = nullptr;
  Param* head_ = nullptr;  // (V,D) lm_head, or embed_tokens when tied; of a group this rank's rows
  std::unique_ptr<RmsNorm> final_norm_;

  // Of the current forward.
  size_t first_kept_ = 0;  // blocks from here on have kept something
  InputGradient input_gradient_ = InputGradient::kNotNeeded;
  Tensor normed_, activated_;         // (N,D), (N,F) shared by the blocks that rebuild them
  std::vector<Tensor> block_inputs_;  // (N,D) each
  std::vector<LlamaBlock::Saved> saved_;
};

}  // namespace facet
