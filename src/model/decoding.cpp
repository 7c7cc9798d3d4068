// Decoding with a key/value cache: new rows run through the blocks once; their keys and values stay
// in the arena. Each piece of a conversation takes the next rows of the cache as it was spliced;
// the attention plan knows what lies there by the kinds and positions of the rows.
#include <algorithm>
#include <span>
#include <vector>

#include "base/check.h"
#include "model/vlm.h"
#include "model/vlm_impl.h"

namespace facet {

struct VisionLanguageModel::Decoding::State {
  State(Impl& the_model, Context& the_ctx, int64_t the_capacity);

  // Appends the new rows of host.spliced to the cache.
  const std::vector<float>& append_rows(Impl::TokenTable table, Tensor image_tokens);
  void run_blocks(Tensor x, int64_t begin);
  Tensor run_again();
  int64_t row_of_last_position() const;
  int64_t length() const { return static_cast<int64_t>(kinds.size()); }

  Impl& model;
  Context ctx;
  ArenaScope memory;
  int64_t capacity;
  std::vector<LlamaBlock::Cache> caches;  // per block
  Tensor inputs;                 // (capacity,D) input rows, if older rows may have to be recomputed
  std::vector<TokenKind> kinds;  // of the rows in the cache
  std::vector<int32_t> positions;
  std::vector<int32_t> sample_begin;  // {0, length}
  std::vector<float> logits;          // (V)
};

VisionLanguageModel::Decoding::State::State(Impl& the_model, Context& the_ctx, int64_t the_capacity)
    : model(the_model), ctx(the_ctx), memory(the_ctx.arena), capacity(the_capacity) {
  const LlamaConfig& lm = model.config.lm;
  const int64_t width = lm.num_key_value_heads * lm.head_dim;
  for (size_t i = 0; i < model.decoder.num_blocks(); ++i)
    caches.push_back({ctx.activation({capacity, width}), ctx.activation({capacity, width})});
  if (model.rope.stretches(capacity)) inputs = ctx.activation({capacity, lm.hidden_size});
  logits.resize(static_cast<size_t>(lm.vocab_size));
}

const std::vector<float>& VisionLanguageModel::Decoding::State::append_rows(Impl::TokenTable table,
                                                                            Tensor image_tokens) {
  const SplicedBatch& spliced = model.host.spliced;
  const int64_t begin = length();
  CHECK(begin + spliced.rows() <= capacity, ExitCode::kBadData,
        "the conversation has {} tokens and {} more are added; the limit is {}: shorten it or "
        "raise --max_seq_len",
        begin, spliced.rows(), capacity);
  kinds.insert(kinds.end(), spliced.kinds.begin(), spliced.kinds.end());
  for (const int32_t position : spliced.positions)
    positions.push_back(static_cast<int32_t>(begin) + position);
  Tensor x = model.embed(ctx, table, image_tokens, upload(ctx, spliced.source));
  if (inputs.defined()) ctx.ops.copy(inputs.row_block(begin, x.rows()), x);
  // If the angles of all positions have changed, the cached rows are stale.
  const int64_t first = model.rope.stretches(length()) ? 0 : begin;
  if (first < begin)
    x = run_again();
  else
    run_blocks(x, begin);
  const Tensor result = ctx.arena.tensor({1, model.config.lm.vocab_size});
  model.decoder.logits(ctx, result, x.row_block(row_of_last_position() - first, 1));
  ctx.ops.copy_to_host(logits.data(), result);
  return logits;
}

int64_t VisionLanguageModel::Decoding::State::row_of_last_position() const {
  return std::max_element(positions.begin(), positions.end()) - positions.begin();
}

// All rows from their inputs, by the angles that belong to the present length. Returns what the
// blocks make of them.
Tensor VisionLanguageModel::Decoding::State::run_again() {
  const Tensor x = ctx.activation({length(), inputs.cols()});
  ctx.ops.copy(x, inputs.row_block(0, length()));
  run_blocks(x, 0);
  return x;
}

void VisionLanguageModel::Decoding::State::run_blocks(Tensor x, int64_t begin) {
  sample_begin.assign({0, static_cast<int32_t>(length())});
  model.make_plan(sample_begin, kinds, positions);
  model.keep_last_rows(begin);
  model.host.cos.clear();
  model.host.sin.clear();
  model.rope.append_rows(model.host.cos, model.host.sin,
                         std::span(positions).subspan(static_cast<size_t>(begin)), length());
  model.decoder.append(ctx, x, model.rows(ctx), caches, begin);
}

VisionLanguageModel::Decoding::Decoding(VisionLanguageModel& model, Context& ctx,
                                        int64_t max_tokens)
    : state_(std::make_unique<State>(*model.impl_, ctx, max_tokens)) {}
VisionLanguageModel::Decoding::~Decoding() = default;

int64_t VisionLanguageModel::Decoding::length() const { return state_->length(); }

void VisionLanguageModel::Decoding::rewind(int64_t length) {
  State& state = *state_;
  ASSERT(length >= 0 && length <= state.length(), "a conversation of {} tokens has no first {}",
         state.length(), length);
  const bool stale = state.model.rope.stretches(state.length());
  state.kinds.resize(static_cast<size_t>(length));
  state.positions.resize(static_cast<size_t>(length));
  ASSERT(length == 0 || state.positions[static_cast<size_t>(state.row_of_last_position())] < length,
         "the first {} rows of a conversation are not its first tokens", length);
  ArenaScope scope(state.ctx.arena);
  if (stale && length > 0) state.run_again();
}

const std::vector<float>& VisionLanguageModel::Decoding::append(const MicroBatch& piece) {
  ASSERT(piece.num_samples() == 1 && piece.num_tokens() > 0,
         "a piece of a conversation is one sample with tokens, not {} with {}", piece.num_samples(),
         piece.num_tokens());
  Context& ctx = state_->ctx;
  Impl& model = state_->model;
  ArenaScope scope(ctx.arena);
  splice(model.host.spliced, piece, model.config);
  Tensor image_tokens;
  if (piece.num_images() > 0)
    image_tokens = model.projection->forward(
        ctx, model.vision.see(ctx, piece, piece.num_images(), Keep::kNothing, nullptr),
        Keep::kNothing);
  return state_->append_rows(model.trained_table(), image_tokens);
}

const std::vector<float>& VisionLanguageModel::Decoding::append_token(int32_t token) {
  ASSERT(token >= 0 && token < state_->model.config.lm.vocab_size, "token id {}", token);
  ArenaScope scope(state_->ctx.arena);
  SplicedBatch& spliced = state_->model.host.spliced;
  spliced.clear();
  spliced.source.push_back(token);
  spliced.kinds.push_back(TokenKind::kText);
  spliced.positions.push_back(0);
  return state_->append_rows(state_->model.table_of_generated(), Tensor());
}

}  // namespace facet
