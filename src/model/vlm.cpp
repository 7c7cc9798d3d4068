#include "model/vlm.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "model/saved_modules.h"
#include "model/vlm_impl.h"

namespace facet {

namespace {

// If LoRA matches no layer, that is a mistake in the option or an adapter of another model, not a
// model without LoRA.
void check_lora(const ParamTable& table, const LoraConfig& lora, std::string_view prefix,
                std::string_view side) {
  if (lora.rank == 0) return;
  for (const Param& param : table.params())
    if (param.role == ParamRole::kLora && param.name.starts_with(prefix)) return;
  CHECK(lora.modules.empty(), ExitCode::kConfig,
        "the adapter belongs to another model: {} is none of the linear layers of {}",
        *lora.modules.begin(), prefix);
  fail(ExitCode::kConfig,
       "--{0}_lora_module_name {1}: no linear layer of {2} has this in its path; set it, or "
       "--{0}_lora_dim 0",
       side, lora.module_name, prefix);
}

void train_by_default(ParamTable& table) {
  table.set_trained("", false);
  table.set_trained("lang_embed.", true);
  table.set_trained("projection.", true);
  for (const Param& param : table.params())
    if (param.role == ParamRole::kLora || !param.saved_as.empty())
      table.set_trained(param.name, true);
}

int64_t longest_sample(const std::vector<int32_t>& sample_begin) {
  int64_t longest = 0;
  for (size_t b = 0; b + 1 < sample_begin.size(); ++b)
    longest = std::max<int64_t>(longest, sample_begin[b + 1] - sample_begin[b]);
  return longest;
}

// DeepSpeed-VisualChat pads the samples of a micro-batch to a common length, a multiple of 8; with
// dynamic rotary scaling that is the length that counts.
int64_t padded_length(const std::vector<int32_t>& sample_begin) {
  return (longest_sample(sample_begin) + 7) / 8 * 8;
}

void check_window(const VlmConfig& config) {
  CHECK(config.lm.sliding_window == 0 || !config.mmca || !config.compat_visualchat,
        ExitCode::kConfig,
        "a decoder with a sliding window of {} has no counterpart in DeepSpeed-VisualChat's "
        "attention over images: train it without --enable_mmca_attention or without --compat "
        "visualchat",
        config.lm.sliding_window);
}

Param* declare_embedding(ParamTable& table, const LlamaConfig& lm) {
  const Share columns = lm.group.about_even(lm.hidden_size);
  return table.add("lang_embed.weight", {lm.vocab_size, columns.count}, ParamRole::kEmbedding,
                   Init::kNone, 0, columns.along(1));
}

}  // namespace

double LossSums::total_loss() const { return std::accumulate(loss.begin(), loss.end(), 0.0); }

int64_t LossSums::total_labelled() const {
  return std::accumulate(labelled.begin(), labelled.end(), int64_t{0});
}

void RowLosses::add_up(LossSums& sums) const {
  sums.labelled = labelled;
  sums.loss.assign(labelled.size(), 0.0);
  size_t row = 0;
  for (size_t b = 0; b < labelled.size(); ++b)
    for (int64_t i = 0; i < labelled[b] && row < loss.size(); ++i)
      sums.loss[b] += static_cast<double>(loss[row++]);
}

Tensor upload(Context& ctx, const std::vector<int32_t>& values) {
  return ctx.input({static_cast<int64_t>(values.size())}, DType::kI32, values.data());
}

// ---- shared by training and decoding

VisionLanguageModel::Impl::Impl(const VlmConfig& the_config, ParamTable& table)
    : config(the_config),
      params(table),
      vision(table, config),
      projection(Projection::make(table, config)),
      embed_unit(table.begin_unit("lang_embed")),
      lang_embed(declare_embedding(table, config.lm)),
      decoder(table, config),
      rope(config.lm) {
  check_lora(table, config.lang_lora, "lang_decoder.", "lang");
  check_lora(table, config.vis_lora, "vis_encoder.", "vis");
  check_window(config);
  mark_saved_modules(table, config);
  train_by_default(table);
}

void VisionLanguageModel::Impl::make_whole_plan(AttentionPlan& plan,
                                                const std::vector<int32_t>& sample_begin,
                                                const std::vector<TokenKind>& kinds,
                                                const std::vector<int32_t>& positions) const {
  if (!config.mmca)
    make_causal_plan(plan, sample_begin);
  else
    make_mmca_plan(plan, sample_begin, kinds, positions,
                   config.compat_visualchat ? MmcaRule::kVisualChat : MmcaRule::kPublished);
}

void VisionLanguageModel::Impl::make_plan(const std::vector<int32_t>& sample_begin,
                                          const std::vector<TokenKind>& kinds,
                                          const std::vector<int32_t>& positions) {
  make_whole_plan(host.plan, sample_begin, kinds, positions);
  host.window_plan.clear();
  const int64_t window = config.lm.sliding_window;
  if (window == 0 || longest_sample(sample_begin) <= window) return;
  limit_to_window(host.window_plan, host.plan, positions, window);
}

void VisionLanguageModel::Impl::lay_out(const MicroBatch& batch) {
  splice(host.spliced, batch, config);
  make_plan(host.spliced.sample_begin, host.spliced.kinds, host.spliced.positions);
  host.cos.clear();
  host.sin.clear();
  const std::vector<int32_t>& begin = host.spliced.sample_begin;
  const int64_t padded = config.compat_visualchat ? padded_length(begin) : 0;
  for (size_t b = 0; b + 1 < begin.size(); ++b) {
    const int64_t length = begin[b + 1] - begin[b];
    rope.append_rows(host.cos, host.sin,
                     std::span(host.spliced.positions)
                         .subspan(static_cast<size_t>(begin[b]), static_cast<size_t>(length)),
                     std::max(length, padded));
  }
}

void VisionLanguageModel::Impl::lay_out_nothing() {
  host.spliced.clear();
  host.plan.clear();
  host.window_plan.clear();
  host.cos.clear();
  host.sin.clear();
}

Tensor VisionLanguageModel::Impl::embed(Context& ctx, TokenTable table, Tensor image_tokens,
                                        Tensor source) {
  const Tensor x = ctx.activation({source.numel(), config.lm.hidden_size});
  ctx.hooks.before(table.unit, Phase::kForward);
  if (x.rows() > 0) splice_rows(ctx, *table.rows, x, image_tokens, source);
  if (x.rows() > 0) ctx.hooks.wrote(table.unit, Phase::kForward, x);
  ctx.hooks.after(table.unit, Phase::kForward);
  return x;
}

void VisionLanguageModel::Impl::splice_rows(Context& ctx, const Param& table, Tensor x,
                                            Tensor image_tokens, Tensor source) const {
  if (!table.is_part()) return ctx.ops.splice_forward(x, table.value, image_tokens, source);
  ASSERT(table.part.axis == 1, "{} is cut by tokens", table.name);
  ArenaScope scope(ctx.arena);
  SharedColumns columns(ctx, config.lm.group, x.rows(), x.cols());
  if (image_tokens.defined())
    image_tokens = image_tokens.column_block(table.part.begin, table.value.cols());
  ctx.ops.splice_forward(columns.mine(), table.value, image_tokens, source);
  columns.join(x);
}

DecoderRows VisionLanguageModel::Impl::rows(Context& ctx) {
  const int64_t pairs = config.lm.head_dim / 2;
  const int64_t n = static_cast<int64_t>(host.cos.size()) / pairs;
  const Tensor cos = ctx.input({n, pairs}, DType::kF32, host.cos.data());
  const Tensor sin = ctx.input({n, pairs}, DType::kF32, host.sin.data());
  return {host.plan, window_plan(), cos, sin};
}

void VisionLanguageModel::Impl::lay_out_targets() {
  const bool has_window = config.lm.has_window(config.lm.num_hidden_layers - 1);
  const std::vector<int32_t>& rows = host.spliced.target_rows;
  keep_queries(host.target_plan, has_window ? window_plan() : host.plan, rows);
  const auto gather = [&, pairs = config.lm.head_dim / 2](std::vector<float>& to,
                                                          const std::vector<float>& from) {
    to.clear();
    for (const int64_t row : rows)
      to.insert(to.end(), from.begin() + row * pairs, from.begin() + (row + 1) * pairs);
  };
  gather(host.target_cos, host.cos);
  gather(host.target_sin, host.sin);
}

AskedRows VisionLanguageModel::Impl::asked_rows(Context& ctx, const LossTargets& targets) {
  const int64_t n = targets.rows.numel(), pairs = config.lm.head_dim / 2;
  return {.rows = targets.rows,
          .plan = &host.target_plan,
          .cos = ctx.input({n, pairs}, DType::kF32, host.target_cos.data()),
          .sin = ctx.input({n, pairs}, DType::kF32, host.target_sin.data())};
}

LossTargets VisionLanguageModel::Impl::targets(Context& ctx) {
  return {upload(ctx, host.spliced.target_rows), upload(ctx, host.spliced.target_labels)};
}

Tensor VisionLanguageModel::Impl::hidden_states(Context& ctx, const MicroBatch& batch,
                                                const AskedRows& asked) {
  const int64_t images = host.spliced.rows() > 0 ? batch.num_images() : 0;
  const Tensor features = vision.see(ctx, batch, images, Keep::kNothing, feature_sink);
  const Tensor tokens = projection->forward(ctx, features, Keep::kNothing);
  const Tensor x = embed(ctx, trained_table(), tokens, upload(ctx, host.spliced.source));
  DecoderRows decoder_rows = rows(ctx);
  decoder_rows.asked = asked;
  return decoder.forward(ctx, x, decoder_rows, Keep::kNothing, InputGradient::kNotNeeded);
}

void VisionLanguageModel::Impl::fetch(Context& ctx, Tensor row_loss, RowLosses& losses) {
  if (row_loss.numel() > 0) ctx.ops.copy_to_host_later(losses.loss.data(), row_loss);
}

// ---- the model

VisionLanguageModel::VisionLanguageModel(const VlmConfig& config, ParamTable& table)
    : impl_(std::make_unique<Impl>(config, table)) {}
VisionLanguageModel::~VisionLanguageModel() = default;

const VlmConfig& VisionLanguageModel::config() const { return impl_->config; }

void VisionLanguageModel::set_vision(VisionWork work) { impl_->vision.set_work(work); }

void VisionLanguageModel::generate_as_original() {
  impl_->generated_as_original = impl_->config.compat_visualchat;
}

FeatureSink* VisionLanguageModel::tell_features_to(FeatureSink* sink) {
  return std::exchange(impl_->feature_sink, sink);
}

void VisionLanguageModel::forward_backward(Context& ctx, const MicroBatch& batch,
                                           float gradient_scale, RowLosses& losses) {
  Impl& model = *impl_;
  ArenaScope scope(ctx.arena);
  model.start(ctx, batch, losses);
  const SplicedBatch& spliced = model.host.spliced;
  const int64_t images = spliced.rows() > 0 ? batch.num_images() : 0;

  const auto keep_for = [](bool backward) {
    return backward ? Keep::kForBackward : Keep::kNothing;
  };
  const bool backward = model.tokens_need_gradient();
  const Tensor features = model.vision.see(
      ctx, batch, images, keep_for(model.vision.needs_backward()), model.feature_sink);
  const Tensor tokens = model.projection->forward(ctx, features, keep_for(backward));
  const Tensor dtokens = backward ? ctx.activation({tokens.rows(), tokens.cols()}) : Tensor();
  const Tensor row_loss = ctx.arena.tensor({spliced.targets()});
  model.train_decoder(ctx, tokens, dtokens, row_loss, gradient_scale);
  model.train_vision(ctx, features, dtokens);
  model.fetch(ctx, row_loss, losses);
}

void VisionLanguageModel::forward_backward(Context& ctx, const MicroBatch& batch,
                                           float gradient_scale, LossSums& sums) {
  RowLosses& losses = impl_->host.losses;
  forward_backward(ctx, batch, gradient_scale, losses);
  ctx.ops.finish_copies();
  losses.add_up(sums);
}

void VisionLanguageModel::Impl::start(Context& ctx, const MicroBatch& batch, RowLosses& losses) {
  ctx.begin_inputs();
  lay_out(batch);
  losses.labelled = host.spliced.labelled;
  losses.loss.assign(static_cast<size_t>(host.spliced.targets()), 0.0f);
  // Without labels there is nothing to compute, but the hooks must be called as on other ranks.
  if (host.spliced.targets() == 0) lay_out_nothing();
  lay_out_targets();
}

void VisionLanguageModel::Impl::train_decoder(Context& ctx, Tensor tokens, Tensor dtokens,
                                              Tensor row_loss, float gradient_scale) {
  ArenaScope scope(ctx.arena);
  const InputGradient input_gradient = decoder_input_gradient();
  const Tensor source = upload(ctx, host.spliced.source);
  const LossTargets asked = targets(ctx);
  DecoderRows decoder_rows = rows(ctx);
  decoder_rows.asked = asked_rows(ctx, asked);
  const Tensor x = embed(ctx, trained_table(), tokens, source);
  const Tensor hidden = decoder.forward(ctx, x, decoder_rows, Keep::kForBackward, input_gradient);

  const bool active = host.spliced.targets() > 0;
  const bool below = active && decoder.blocks_need_backward(input_gradient);
  const Tensor dx = below ? ctx.activation({x.rows(), x.cols()}) : Tensor();
  const Tensor dhidden = below ? ctx.activation({hidden.rows(), hidden.cols()}) : Tensor();
  decoder.loss_and_gradient(ctx, row_loss, dhidden, hidden, asked.labels, gradient_scale);
  decoder.backward(ctx, dx, dhidden, decoder_rows);
  embed_backward(ctx, dtokens, dx, source);
}

void VisionLanguageModel::Impl::embed_backward(Context& ctx, Tensor dtokens, Tensor dx,
                                               Tensor source) {
  if (lang_embed->trained) ctx.hooks.before(embed_unit, Phase::kBackward);
  const bool wanted = lang_embed->trained || (dtokens.defined() && dtokens.rows() > 0);
  if (dx.defined() && wanted) ctx.ops.splice_backward(lang_embed->grad, dtokens, dx, source);
  if (lang_embed->trained) ctx.hooks.after(embed_unit, Phase::kBackward);
  ctx.hooks.gradients_ready(embed_unit);
}

void VisionLanguageModel::Impl::train_vision(Context& ctx, Tensor features, Tensor dtokens) {
  if (!dtokens.defined() || dtokens.rows() == 0) {
    projection->skip_backward(ctx);
    vision.skip_backward(ctx);
    return;
  }
  const Tensor dfeatures =
      vision.needs_backward() ? ctx.activation({features.rows(), features.cols()}) : Tensor();
  projection->backward(ctx, dfeatures, dtokens);
  if (vision.needs_backward())
    vision.backward(ctx, dfeatures);
  else
    vision.skip_backward(ctx);
}

void VisionLanguageModel::evaluate(Context& ctx, const MicroBatch& batch, LossSums& sums) {
  Impl& model = *impl_;
  ArenaScope scope(ctx.arena);
  RowLosses& losses = model.host.losses;
  model.start(ctx, batch, losses);
  const LossTargets asked = model.targets(ctx);
  const Tensor hidden = model.hidden_states(ctx, batch, model.asked_rows(ctx, asked));
  const Tensor row_loss = ctx.arena.tensor({model.host.spliced.targets()});
  model.decoder.loss(ctx, row_loss, hidden, asked.labels);
  model.fetch(ctx, row_loss, losses);
  ctx.ops.finish_copies();
  losses.add_up(sums);
}

void VisionLanguageModel::all_logits(Context& ctx, const MicroBatch& batch,
                                     std::vector<float>& logits) {
  Impl& model = *impl_;
  ArenaScope scope(ctx.arena);
  ctx.begin_inputs();
  model.lay_out(batch);
  const Tensor hidden = model.hidden_states(ctx, batch, AskedRows());
  std::vector<int32_t> rows;
  model.host.spliced.rows_by_position(rows);
  const Tensor by_position = ctx.activation({hidden.rows(), hidden.cols()});
  ctx.ops.gather_rows_forward(by_position, hidden, upload(ctx, rows));
  const Tensor result = ctx.arena.tensor({hidden.rows(), model.config.lm.vocab_size});
  model.decoder.logits(ctx, result, by_position);
  logits.resize(static_cast<size_t>(result.numel()));
  if (!logits.empty()) ctx.ops.copy_to_host(logits.data(), result);
}

void VisionLanguageModel::image_features(Context& ctx, const MicroBatch& batch,
                                         std::vector<float>& features,
                                         std::vector<float>& projected) {
  Impl& model = *impl_;
  ArenaScope scope(ctx.arena);
  ctx.begin_inputs();
  const auto download = [&ctx](std::vector<float>& values, const Tensor& x) {
    values.resize(static_cast<size_t>(x.numel()));
    if (values.empty()) return;
    ArenaScope wide(ctx.arena);
    const Tensor result = ctx.arena.tensor({x.rows(), x.cols()});
    ctx.ops.copy(result, x);
    ctx.ops.copy_to_host(values.data(), result);
  };
  const Tensor seen =
      model.vision.see(ctx, batch, batch.num_images(), Keep::kNothing, model.feature_sink);
  download(features, seen);
  download(projected, model.projection->forward(ctx, seen, Keep::kNothing));
}

}  // namespace facet
