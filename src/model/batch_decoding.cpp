// Decoding with a key/value cache in pages: new rows of all sequences run through the blocks once;
// their keys and values stay in the arena. Each piece of a sequence takes the next of its rows as
// it was spliced; the attention plan knows what lies there by the kinds and positions of the rows,
// and the rows' places in the pool by the sequence's pages.
#include <algorithm>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "base/check.h"
#include "model/page_pool.h"
#include "model/sequence_rows.h"
#include "model/vlm.h"
#include "model/vlm_impl.h"
#include "ops/pool_plan.h"

namespace facet {

static_assert(VisionLanguageModel::BatchDecoding::kPageRows == PagePool::kRows);

struct VisionLanguageModel::BatchDecoding::State {
  State(Impl& the_model, Context& the_ctx, int64_t num_pages, Sharing sharing);

  SequenceRows& at(int sequence) {
    ASSERT(sequence >= 0 && static_cast<size_t>(sequence) < sequences.size() &&
               sequences[static_cast<size_t>(sequence)].is_open,
           "sequence {} is not open", sequence);
    return sequences[static_cast<size_t>(sequence)];
  }
  void check_room(const SequenceRows& rows, int64_t more) const;
  void take_pages(SequenceRows& rows);
  int64_t share_pages(SequenceRows& rows);
  std::optional<int32_t> find_last_page(const SequenceRows& rows, int64_t needed);
  void copy_last_page(const SequenceRows& rows, size_t place, int32_t from);
  void leave_out(SequenceRows& rows, int64_t shared);

  // What a forward of those sequences computes, on the host.
  void lay_out(std::span<const int> which);
  void lay_out_rows(SequenceRows& rows, int64_t first);
  void make_plans(const SequenceRows& rows, int64_t first);
  void add_plan(AttentionPlan& plan, const AttentionPlan& whole, const SequenceRows& rows,
                int64_t first);
  bool window_hides(std::span<const int> which);

  void forward(std::span<const int> which);
  void forward_all(std::span<int> which);
  // The first row to be computed; all, if their angles have changed.
  int64_t first_row(const SequenceRows& rows) const {
    return model.rope.stretches(rows.length()) ? 0 : rows.num_run;
  }
  bool runs_again(const SequenceRows& rows) const { return first_row(rows) < rows.num_run; }
  Tensor image_tokens();
  Tensor input_rows(std::span<const int> which);
  void fetch_logits(Tensor x, std::span<const int> which);
  void finish(SequenceRows& rows);

  Impl& model;
  Context ctx;
  ArenaScope memory;
  DoraNorms norms;
  PagePool pool;
  bool shares;
  int64_t reserved = 0;  // pages of open sequences
  int64_t shared_rows = 0;
  std::vector<LlamaBlock::Cache> caches;  // per block
  Tensor inputs;  // (rows,D) input rows, if older rows may have to be recomputed
  std::deque<SequenceRows> sequences;  // stay in their places

  // Of the current forward.
  std::vector<int> waiting;
  MicroBatch images;
  std::vector<int32_t> source;
  std::vector<int32_t> last_rows;  // of each sequence, among the rows computed
  std::vector<StoredRows> stored;
  int64_t num_rows = 0;
  PoolPlanWriter plan_writer;
  AttentionPlan whole_plan, limited_plan, kept_plan;  // of one sequence
  std::vector<int32_t> sample_begin, queries;
};

VisionLanguageModel::BatchDecoding::State::State(Impl& the_model, Context& the_ctx,
                                                 int64_t num_pages, Sharing sharing)
    : model(the_model),
      ctx(the_ctx),
      memory(the_ctx.arena),
      norms(the_ctx.arena, the_model.params),
      pool(num_pages) {
  ctx.decoding = true;
  ctx.norms = &norms;
  const LlamaConfig& lm = model.config.lm;
  const int64_t rows = num_pages * PagePool::kRows, width = model.decoder.cache_width();
  for (size_t i = 0; i < model.decoder.num_blocks(); ++i) {
    caches.push_back({ctx.activation({rows, width}), ctx.activation({rows, width})});
    // Kernels on a device read whole boxes of rows, of which some may not have been written.
    if (caches.back().v.space() != Space::kDevice) continue;
    ctx.ops.fill(caches.back().k, 0);
    ctx.ops.fill(caches.back().v, 0);
  }
  if (model.rope.stretches(rows)) inputs = ctx.activation({rows, lm.hidden_size});
  shares = sharing == Sharing::kOn && !inputs.defined() &&
           !(model.config.mmca && model.config.compat_visualchat);
}

void VisionLanguageModel::BatchDecoding::State::check_room(const SequenceRows& rows,
                                                           int64_t more) const {
  CHECK(rows.length() + more <= rows.max_tokens, ExitCode::kBadData,
        "the conversation has {} tokens and {} more are added; the limit is {}: shorten it or "
        "raise --max_seq_len",
        rows.length(), more, rows.max_tokens);
}

// ---- pages

void VisionLanguageModel::BatchDecoding::State::take_pages(SequenceRows& rows) {
  const int64_t shared = shares ? share_pages(rows) : 0;
  const size_t place = rows.pages.size();
  const int64_t needed = PagePool::pages_for(rows.max_tokens) - static_cast<int64_t>(place);
  const std::optional<int32_t> last = shares ? find_last_page(rows, needed) : std::nullopt;
  pool.take(needed, rows.pages);
  rows.lay_on_pages();
  if (last) copy_last_page(rows, place, *last);
  leave_out(rows, last ? rows.length() : shared);
}

// The page that ends a first piece like this one's, with one more user, if all pages before it are
// shared and `needed` pages are free without it.
std::optional<int32_t> VisionLanguageModel::BatchDecoding::State::find_last_page(
    const SequenceRows& rows, int64_t needed) {
  const bool is_next = rows.pages.size() + 1 == rows.written.size();
  if (!is_next || rows.length() % PagePool::kRows == 0) return {};
  const std::optional<int32_t> last = pool.share(rows.written.back());
  if (!last || pool.num_free() >= needed) return last;
  pool.release(*last);
  return {};
}

// Takes the pages that others have, as far as they go and are full. Returns how many rows that is.
int64_t VisionLanguageModel::BatchDecoding::State::share_pages(SequenceRows& rows) {
  const auto full = static_cast<size_t>(rows.length() / PagePool::kRows);
  while (rows.pages.size() < full) {
    const std::optional<int32_t> page = pool.share(rows.written[rows.pages.size()]);
    if (!page) break;
    rows.pages.push_back(*page);
  }
  return static_cast<int64_t>(rows.pages.size()) * PagePool::kRows;
}

// Of the last page of a first piece, which the sequence will write on, a copy.
void VisionLanguageModel::BatchDecoding::State::copy_last_page(const SequenceRows& rows,
                                                               size_t place, int32_t from) {
  const int64_t count = rows.length() % PagePool::kRows;
  for (const LlamaBlock::Cache& cache : caches)
    for (const Tensor& x : {cache.k, cache.v})
      ctx.ops.copy(x.row_block(rows.pages[place] * PagePool::kRows, count),
                   x.row_block(from * PagePool::kRows, count));
  pool.release(from);
}

// The first rows need not be computed, but for the one whose logits are asked for.
void VisionLanguageModel::BatchDecoding::State::leave_out(SequenceRows& rows, int64_t shared) {
  if (shared == 0) return;
  rows.num_run = shared;
  rows.asks_again = rows.last_row < shared;
  const int32_t last = rows.source[static_cast<size_t>(rows.last_row)];
  rows.source.erase(rows.source.begin(), rows.source.begin() + shared);
  if (rows.asks_again) rows.source.insert(rows.source.begin(), last);
  shared_rows += shared;
  const bool sees = std::any_of(rows.source.begin(), rows.source.end(),
                                [](int32_t source) { return source < 0; });
  if (sees) return;
  rows.num_images = 0;
  rows.pixels.clear();
}

// ---- a forward

bool VisionLanguageModel::BatchDecoding::State::window_hides(std::span<const int> which) {
  const int64_t window = model.config.lm.sliding_window;
  return window > 0 && std::any_of(which.begin(), which.end(),
                                   [&](int sequence) { return at(sequence).length() > window; });
}

// A plan of one sequence, all its rows, goes into that of the forward with those of its queries
// that are computed.
void VisionLanguageModel::BatchDecoding::State::add_plan(AttentionPlan& plan,
                                                         const AttentionPlan& whole,
                                                         const SequenceRows& rows, int64_t first) {
  queries.clear();
  if (rows.asks_again) queries.push_back(static_cast<int32_t>(rows.last_row));
  for (int64_t row = first; row < rows.length(); ++row)
    queries.push_back(static_cast<int32_t>(row));
  keep_queries(kept_plan, whole, queries);
  plan_writer.add(plan, kept_plan, rows.places);
}

void VisionLanguageModel::BatchDecoding::State::make_plans(const SequenceRows& rows,
                                                           int64_t first) {
  sample_begin.assign({0, static_cast<int32_t>(rows.length())});
  model.make_whole_plan(whole_plan, sample_begin, rows.kinds, rows.positions);
  add_plan(model.host.plan, whole_plan, rows, first);
  if (model.host.window_plan.pool_rows == 0) return;
  limit_to_window(limited_plan, whole_plan, rows.positions, model.config.lm.sliding_window);
  add_plan(model.host.window_plan, limited_plan, rows, first);
}

// Rows [first, length) of a sequence, and the one that is asked again.
void VisionLanguageModel::BatchDecoding::State::lay_out_rows(SequenceRows& rows, int64_t first) {
  make_plans(rows, first);
  const std::span<const int32_t> positions = rows.positions;
  Impl::OnHost& host = model.host;
  const auto row_of_last = static_cast<size_t>(rows.last_row);
  if (rows.asks_again) {
    last_rows.push_back(static_cast<int32_t>(num_rows++));
    model.rope.append_rows(host.cos, host.sin, positions.subspan(row_of_last, 1), rows.length());
  } else {
    last_rows.push_back(static_cast<int32_t>(num_rows + rows.last_row - first));
  }
  model.rope.append_rows(host.cos, host.sin, positions.subspan(static_cast<size_t>(first)),
                         rows.length());
  rows.for_places(first, rows.length() - first, [&](int64_t to, int64_t done, int64_t count) {
    stored.push_back({static_cast<int32_t>(num_rows + done), static_cast<int32_t>(to),
                      static_cast<int32_t>(count)});
  });
  num_rows += rows.length() - first;
}

void VisionLanguageModel::BatchDecoding::State::lay_out(std::span<const int> which) {
  source.clear();
  images.pixels.clear();
  images.images_per_sample.assign(1, 0);
  last_rows.clear();
  stored.clear();
  num_rows = 0;
  Impl::OnHost& host = model.host;
  host.cos.clear();
  host.sin.clear();
  host.window_plan.clear();
  int64_t pool_rows = 0;
  for (const int sequence : which)
    for (const RowRange& place : at(sequence).places)
      pool_rows = std::max<int64_t>(pool_rows, place.end());
  const int slots = model.config.mmca ? 2 : 1;
  plan_writer.begin(host.plan, pool_rows, slots);
  if (window_hides(which)) plan_writer.begin(host.window_plan, pool_rows, slots);
  for (const int sequence : which) {
    SequenceRows& rows = at(sequence);
    const auto before =
        static_cast<int32_t>(images.images_per_sample[0] * model.config.image_tokens());
    for (const int32_t from : rows.source) source.push_back(from < 0 ? from - before : from);
    images.pixels.insert(images.pixels.end(), rows.pixels.begin(), rows.pixels.end());
    images.images_per_sample[0] += static_cast<int32_t>(rows.num_images);
    if (rows.num_images > 0) images.image_size = rows.image_size;
    lay_out_rows(rows, first_row(rows));
  }
}

Tensor VisionLanguageModel::BatchDecoding::State::image_tokens() {
  const int64_t count = images.num_images();
  if (count == 0) return {};
  return model.projection->forward(
      ctx, model.vision.see(ctx, images, count, Keep::kNothing, nullptr), Keep::kNothing);
}

// The rows to be computed, (num_rows,D). Those of a sequence that is run again are kept from
// before, and take no memory beside what only the new ones took.
Tensor VisionLanguageModel::BatchDecoding::State::input_rows(std::span<const int> which) {
  const Arena::Mark mark = ctx.arena.mark();
  const bool generated = at(which.front()).generated;
  const Tensor added =
      model.embed(ctx, generated ? model.table_of_generated() : model.trained_table(),
                  image_tokens(), upload(ctx, source));
  if (!inputs.defined()) return added;
  int64_t begin = 0;
  for (const int sequence : which) {
    const SequenceRows& rows = at(sequence);
    const int64_t count = rows.num_to_run();
    rows.for_places(rows.length() - count, count, [&](int64_t to, int64_t done, int64_t here) {
      ctx.ops.copy(inputs.row_block(to, here), added.row_block(begin + done, here));
    });
    begin += count;
  }
  if (num_rows == added.rows()) return added;
  ctx.arena.release(mark);
  const Tensor x = ctx.activation({num_rows, inputs.cols()});
  for (const auto& [from, to, count] : stored)
    ctx.ops.copy(x.row_block(from, count), inputs.row_block(to, count));
  return x;
}

void VisionLanguageModel::BatchDecoding::State::fetch_logits(Tensor x, std::span<const int> which) {
  const auto count = static_cast<int64_t>(which.size());
  Tensor last = x.row_block(last_rows[0], 1);
  if (count > 1) {
    last = ctx.activation({count, x.cols()});
    ctx.ops.gather_rows_forward(last, x, upload(ctx, last_rows));
  }
  const Tensor result = ctx.arena.tensor({count, model.config.lm.vocab_size});
  model.decoder.logits(ctx, result, last);
  for (int64_t i = 0; i < count; ++i) {
    std::vector<float>& logits = at(which[static_cast<size_t>(i)]).logits;
    logits.resize(static_cast<size_t>(result.cols()));
    ctx.ops.copy_to_host_later(logits.data(), result.row_block(i, 1));
  }
  ctx.ops.finish_copies();
}

void VisionLanguageModel::BatchDecoding::State::finish(SequenceRows& rows) {
  rows.num_run = rows.length();
  rows.asks_again = false;
  rows.source.clear();
  rows.pixels.clear();
  rows.num_images = 0;
  for (size_t i = 0; i < rows.written.size(); ++i) pool.write(rows.pages[i], rows.written[i]);
  rows.written.clear();
}

void VisionLanguageModel::BatchDecoding::State::forward(std::span<const int> which) {
  if (which.empty()) return;
  ArenaScope scope(ctx.arena);
  const DecodingScope decodes(ctx.ops);
  lay_out(which);
  const Tensor x = input_rows(which);
  model.decoder.append(ctx, x, model.rows(ctx), caches, stored);
  fetch_logits(x, which);
  for (const int sequence : which) finish(at(sequence));
}

// Where generated tokens have a table of their own they have a forward of their own.
void VisionLanguageModel::BatchDecoding::State::forward_all(std::span<int> which) {
  if (!model.config.compat_visualchat) return forward(which);
  const auto generated = std::partition(which.begin(), which.end(),
                                        [&](int sequence) { return !at(sequence).generated; });
  forward({which.begin(), generated});
  forward({generated, which.end()});
}

// ---- the interface

VisionLanguageModel::BatchDecoding::BatchDecoding(VisionLanguageModel& model, Context& ctx,
                                                  int64_t pages, Sharing sharing)
    : state_(std::make_unique<State>(*model.impl_, ctx, pages, sharing)) {}
VisionLanguageModel::BatchDecoding::~BatchDecoding() = default;

int VisionLanguageModel::BatchDecoding::open(int64_t max_tokens) {
  State& state = *state_;
  state.reserved += pages_for(max_tokens);
  ASSERT(max_tokens > 0 && state.reserved <= state.pool.num_pages(),
         "{} pages for sequences, one of {} tokens is to have {} more", state.pool.num_pages(),
         max_tokens, state.reserved - pages_for(max_tokens));
  auto& sequences = state.sequences;
  auto unused = std::find_if(sequences.begin(), sequences.end(),
                             [](const SequenceRows& rows) { return !rows.is_open; });
  if (unused == sequences.end()) unused = sequences.emplace(sequences.end());
  unused->open(max_tokens);
  return static_cast<int>(unused - sequences.begin());
}

void VisionLanguageModel::BatchDecoding::close(int sequence) {
  rewind(sequence, 0);
  SequenceRows& rows = state_->at(sequence);
  state_->reserved -= pages_for(rows.max_tokens);
  rows.is_open = false;
}

void VisionLanguageModel::BatchDecoding::append(int sequence, const MicroBatch& piece,
                                                std::span<const std::string> images) {
  ASSERT(piece.num_samples() == 1 && piece.num_tokens() > 0,
         "a piece of a conversation is one sample with tokens, not {} with {}", piece.num_samples(),
         piece.num_tokens());
  State& state = *state_;
  SequenceRows& rows = state.at(sequence);
  SplicedBatch& spliced = state.model.host.spliced;
  splice(spliced, piece, state.model.config);
  state.check_room(rows, spliced.rows());
  const bool is_first = rows.length() == 0;
  const auto before = static_cast<int32_t>(rows.num_images * state.model.config.image_tokens());
  rows.append(spliced);
  rows.generated = false;
  for (const int32_t from : spliced.source) rows.source.push_back(from < 0 ? from - before : from);
  rows.pixels.insert(rows.pixels.end(), piece.pixels.begin(), piece.pixels.end());
  rows.num_images += piece.num_images();
  rows.image_size = piece.image_size;
  if (!is_first) return;
  if (state.shares) {
    rows.written = page_keys(rows, state.model.config.image_tokens(), images);
    rows.never_forgotten = rows.length();
  }
  if (rows.pages.empty()) state.take_pages(rows);
}

void VisionLanguageModel::BatchDecoding::append_token(int sequence, int32_t token) {
  State& state = *state_;
  ASSERT(token >= 0 && token < state.model.config.lm.vocab_size, "token id {}", token);
  SequenceRows& rows = state.at(sequence);
  state.check_room(rows, 1);
  rows.generated = !rows.waits();
  rows.append_text(token);
  if (rows.pages.empty()) state.take_pages(rows);
}

void VisionLanguageModel::BatchDecoding::run() {
  State& state = *state_;
  state.waiting.clear();
  for (size_t i = 0; i < state.sequences.size(); ++i) {
    const SequenceRows& rows = state.sequences[i];
    if (!rows.is_open || !rows.waits()) continue;
    const int sequence = static_cast<int>(i);
    if (state.runs_again(rows))
      state.forward({&sequence, 1});
    else
      state.waiting.push_back(sequence);
  }
  state.forward_all(state.waiting);
}

const std::vector<float>& VisionLanguageModel::BatchDecoding::logits(int sequence) const {
  return state_->at(sequence).logits;
}

int64_t VisionLanguageModel::BatchDecoding::length(int sequence) const {
  return state_->at(sequence).length();
}

int64_t VisionLanguageModel::BatchDecoding::shared_rows() const { return state_->shared_rows; }

void VisionLanguageModel::BatchDecoding::rewind(int sequence, int64_t length) {
  State& state = *state_;
  SequenceRows& rows = state.at(sequence);
  if (length == 0) {
    for (const int32_t page : rows.pages) state.pool.release(page);
    return rows.open(rows.max_tokens);
  }
  ASSERT(length >= rows.never_forgotten && length <= rows.length() && !rows.waits(),
         "a conversation of {} tokens, of which the first {} may be shared, has no first {}",
         rows.length(), rows.never_forgotten, length);
  const bool stale = state.model.rope.stretches(rows.length());
  rows.forget(length);
  ASSERT(rows.positions[static_cast<size_t>(rows.last_row)] < length,
         "the first {} rows of a conversation are not its first tokens", length);
  if (!stale) return;
  rows.num_run = 0;
  state.forward({&sequence, 1});
}

}  // namespace facet
