#include "model/llama.h"

#include <algorithm>
#include <string>

namespace facet {
namespace {
const std::string kRoot = "lang_decoder.";
}  // namespace

LlamaDecoder::LlamaDecoder(ParamTable& table, const VlmConfig& config)
    : config_(config.lm),
      recompute_(config.recompute),
      rebuild_(config.rebuild && !config.recompute),
      rows_per_chunk_(config.max_labelled_rows_per_chunk) {
  const Share tokens = config_.group.about_even(config_.vocab_size);
  const auto add_tokens = [&](const char* name, ParamRole role) {
    return table.add(kRoot + name, {tokens.count, config_.hidden_size}, role, Init::kNone, 0,
                     tokens.along(0));
  };
  const auto add_embedding = [&] {
    return add_tokens("model.embed_tokens.weight", ParamRole::kEmbedding);
  };
  if (!config_.tie_word_embeddings) {
    // The input rows come from lang_embed: no gradient ever reaches this table.
    embed_unit_ = table.begin_unit(kRoot + "embed_tokens");
    own_tokens_ = add_embedding();
    own_tokens_->constant = true;
  }
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    block_units_.push_back(table.begin_unit(kRoot + "layers." + std::to_string(i)));
    blocks_.emplace_back(table, kRoot, i, config_, config.lang_lora);
  }
  head_unit_ = table.begin_unit(kRoot + "head");
  final_norm_ = std::make_unique<RmsNorm>(table, kRoot + "model.norm", config_.hidden_size,
                                          config_.rms_norm_eps);
  if (config_.tie_word_embeddings) own_tokens_ = add_embedding();
  head_ =
      config_.tie_word_embeddings ? own_tokens_ : add_tokens("lm_head.weight", ParamRole::kWeight);
  block_inputs_.resize(blocks_.size());
  saved_.resize(blocks_.size());
}

bool LlamaDecoder::blocks_need_backward(InputGradient input_gradient) const {
  return lowest_block(input_gradient) < blocks_.size() || input_gradient == InputGradient::kNeeded;
}

size_t LlamaDecoder::lowest_block(InputGradient input_gradient) const {
  if (input_gradient == InputGradient::kNeeded) return 0;
  const auto trained = [](const LlamaBlock& block) { return block.any_trained(); };
  return static_cast<size_t>(std::find_if(blocks_.begin(), blocks_.end(), trained) -
                             blocks_.begin());
}

Tensor LlamaDecoder::forward(Context& ctx, Tensor x, const DecoderRows& rows, Keep keep,
                             InputGradient input_gradient) {
  input_gradient_ = input_gradient;
  first_kept_ = keep == Keep::kForBackward ? lowest_block(input_gradient) : blocks_.size();
  const bool shared = rebuild_ && x.rows() > 0 && first_kept_ < blocks_.size();
  normed_ = shared ? ctx.activation({x.rows(), config_.hidden_size}) : Tensor();
  activated_ = shared ? ctx.activation({x.rows(), config_.intermediate_size}) : Tensor();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    ctx.hooks.before(block_units_[i], Phase::kForward);
    block_inputs_[i] = x;
    if (x.rows() > 0) {
      const bool kept = i >= first_kept_;
      const DecoderRows mine = rows_of(i, rows);
      const bool some = mine.asked.defined();
      const int64_t n = some ? mine.asked.count() : x.rows();
      const Tensor y = kept || some ? ctx.activation({n, config_.hidden_size}) : x;
      blocks_[i].forward(ctx, y, x, mine, kept && !recompute_ ? &saved_[i] : nullptr);
      ctx.hooks.wrote(block_units_[i], Phase::kForward, y);
      x = y;
    }
    ctx.hooks.after(block_units_[i], Phase::kForward);
  }
  return x;
}

void LlamaDecoder::backward_block(Context& ctx, size_t i, Tensor dx, Tensor dy,
                                  const DecoderRows& rows) {
  ArenaScope scope(ctx.arena);
  if (recompute_) {
    ctx.hooks.before(block_units_[i], Phase::kRecompute);
    if (dx.defined()) blocks_[i].recompute(ctx, block_inputs_[i], rows, saved_[i]);
    ctx.hooks.after(block_units_[i], Phase::kRecompute);
  }
  const InputGradient wanted = i > first_kept_ ? InputGradient::kNeeded : input_gradient_;
  if (!dx.defined()) return;
  blocks_[i].backward(ctx, dx, dy, block_inputs_[i], rows, saved_[i], wanted);
  if (wanted == InputGradient::kNeeded) ctx.hooks.wrote(block_units_[i], Phase::kBackward, dx);
}

void LlamaDecoder::backward(Context& ctx, Tensor dx, Tensor dhidden, const DecoderRows& rows) {
  for (size_t i = blocks_.size(); i-- > 0;) {
    if (i >= first_kept_) {
      ctx.hooks.before(block_units_[i], Phase::kBackward);
      const bool is_last = i + 1 == blocks_.size();
      backward_block(ctx, i, dx, is_last ? dhidden : dx, rows_of(i, rows));
      ctx.hooks.after(block_units_[i], Phase::kBackward);
    }
    ctx.hooks.gradients_ready(block_units_[i]);
  }
  if (embed_unit_ >= 0) ctx.hooks.gradients_ready(embed_unit_);
}

// ---- head

LlamaDecoder::Chunk LlamaDecoder::run_chunk(Context& ctx, Tensor hidden) const {
  Chunk chunk;
  chunk.normed = ctx.activation({hidden.rows(), config_.hidden_size});
  final_norm_->forward(ctx, chunk.normed, hidden, &chunk.norm);
  // With added tokens the vocabulary size is often odd.
  chunk.logits = ctx.activation_with_aligned_rows(hidden.rows(), config_.vocab_size);
  project(ctx, chunk.logits, chunk.normed);
  return chunk;
}

void LlamaDecoder::project(Context& ctx, Tensor logits, Tensor normed) const {
  if (!head_->is_part())
    return ctx.linear_forward(logits, normed, head_->value, Tensor(), Tensor());
  ArenaScope scope(ctx.arena);
  SharedColumns columns(ctx, config_.group, normed.rows(), config_.vocab_size);
  ctx.linear_forward(columns.mine(), normed, head_->value, Tensor(), Tensor());
  columns.join(logits);
}

void LlamaDecoder::loss(Context& ctx, Tensor row_loss, Tensor hidden, Tensor labels) {
  ctx.hooks.before(head_unit_, Phase::kForward);
  const int64_t rows = labels.numel();
  for (int64_t begin = 0; begin < rows; begin += rows_per_chunk_) {
    ArenaScope chunk_scope(ctx.arena);
    const int64_t count = std::min(rows_per_chunk_, rows - begin);
    const Chunk chunk = run_chunk(ctx, hidden.row_block(begin, count));
    ctx.ops.cross_entropy_forward(row_loss.range(begin, count), chunk.logits,
                                  labels.range(begin, count));
  }
  ctx.hooks.after(head_unit_, Phase::kForward);
}

void LlamaDecoder::chunk_backward(Context& ctx, Tensor dx, Tensor x, const Chunk& chunk) const {
  const Tensor& dlogits = chunk.logits;  // overwritten by its gradient in cross-entropy
  if (head_->trained) ctx.ops.linear_backward_weight(head_->grad, Tensor(), dlogits, chunk.normed);
  if (!dx.defined()) return;
  const Tensor dnormed = ctx.activation({x.rows(), config_.hidden_size});
  ctx.ops.linear_backward_input(dnormed, dlogits, head_->value);
  final_norm_->backward(ctx, dx, dnormed, x, chunk.norm, Tensor());
}

void LlamaDecoder::loss_and_gradient(Context& ctx, Tensor row_loss, Tensor dhidden, Tensor hidden,
                                     Tensor labels, float gradient_scale) {
  ctx.hooks.before(head_unit_, Phase::kBackward);
  const int64_t rows = labels.numel();
  if (rows > 0) {
    ArenaScope scope(ctx.arena);
    const bool only_norm = !dhidden.defined() && final_norm_->any_trained();
    const Tensor dx = only_norm ? ctx.activation({rows, config_.hidden_size}) : dhidden;
    for (int64_t begin = 0; begin < rows; begin += rows_per_chunk_) {
      ArenaScope chunk_scope(ctx.arena);
      const int64_t count = std::min(rows_per_chunk_, rows - begin);
      const Tensor x = hidden.row_block(begin, count);
      const Chunk chunk = run_chunk(ctx, x);
      ctx.ops.cross_entropy_forward_backward(row_loss.range(begin, count), chunk.logits,
                                             labels.range(begin, count), gradient_scale);
      chunk_backward(ctx, dx.defined() ? dx.row_block(begin, count) : Tensor(), x, chunk);
    }
    ctx.hooks.wrote(head_unit_, Phase::kForward, row_loss);
    if (dhidden.defined()) ctx.hooks.wrote(head_unit_, Phase::kBackward, dhidden);
  }
  ctx.hooks.after(head_unit_, Phase::kBackward);
  ctx.hooks.gradients_ready(head_unit_);
}

void LlamaDecoder::logits(Context& ctx, Tensor logits, Tensor hidden) {
  ctx.hooks.before(head_unit_, Phase::kForward);
  const int64_t rows = hidden.rows();
  for (int64_t begin = 0; begin < rows; begin += rows_per_chunk_) {
    ArenaScope scope(ctx.arena);
    const int64_t count = std::min(rows_per_chunk_, rows - begin);
    const Chunk chunk = run_chunk(ctx, hidden.row_block(begin, count));
    ctx.ops.copy(logits.row_block(begin, count), chunk.logits);
  }
  ctx.hooks.after(head_unit_, Phase::kForward);
}

void LlamaDecoder::append(Context& ctx, Tensor x, const DecoderRows& rows,
                          const std::vector<LlamaBlock::Cache>& caches,
                          std::span<const StoredRows> stored) {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    ctx.hooks.before(block_units_[i], Phase::kForward);
    blocks_[i].append(ctx, x, rows, caches[i], stored);
    ctx.hooks.after(block_units_[i], Phase::kForward);
  }
}

}  // namespace facet
