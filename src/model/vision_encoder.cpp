#include "model/vision_encoder.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace facet {
namespace {

const char* const kRoot = "vis_encoder.";
const char* const kClassEmbedding = "vision_model.embeddings.class_embedding";

// How many blocks the feature needs: -1 is the output of the last one, -2 of the one before it, ...
int64_t used_blocks(const VlmConfig& config) {
  const int64_t layers = config.vision.num_hidden_layers;
  const int64_t used = layers + 1 + config.vision_feature_layer;
  CHECK(config.vision_feature_layer < 0 && used >= 1, ExitCode::kConfig,
        "--vision_feature_layer {} does not exist: the vision encoder has {} layers, counted from "
        "-1 (the last) down to {}",
        config.vision_feature_layer, layers, -layers);
  CHECK(!config.vision.traits().pool || used == layers, ExitCode::kConfig,
        "--vision_feature_layer {}: the {} vision encoder pools the output of its last block; "
        "leave it out",
        config.vision_feature_layer, config.vision.traits().name);
  return used;
}

int64_t patches_of(const VlmConfig& config) {
  const VisionConfig& vision = config.vision;
  const auto fits = [&](int64_t side) {
    return side >= vision.patch_size && (vision.traits().margin || side % vision.patch_size == 0);
  };
  CHECK(vision.patch_size > 0 && fits(config.image_size) && fits(vision.image_size),
        ExitCode::kConfig,
        "image sizes {} (wanted) and {} (of the model) must be {} {}; "
        "choose another --image_size",
        config.image_size, vision.image_size,
        vision.traits().margin ? "at least the patch size" : "multiples of the patch size",
        vision.patch_size);
  CHECK(vision.num_attention_heads > 0 && vision.hidden_size % vision.num_attention_heads == 0,
        ExitCode::kConfig, "the vision encoder's width {} is not a multiple of its {} heads",
        vision.hidden_size, vision.num_attention_heads);
  const int64_t grid = config.image_size / vision.patch_size;
  return grid * grid;
}

// The name of a parameter or layer of the encoder.
std::string rooted(const char* path) { return std::string(kRoot) + path; }

bool any_trained(const ParamUnit& unit) {
  return std::any_of(unit.params.begin(), unit.params.end(),
                     [](const Param* param) { return param->trained; });
}

}  // namespace

VisionEncoder::VisionEncoder(ParamTable& table, const VlmConfig& config)
    : config_(config.vision),
      image_size_(config.image_size),
      patches_(patches_of(config)),
      drops_class_token_(config.vision.traits().class_token && config.vision_tokens() == patches_),
      tokens_out_(config.vision_tokens()),
      recompute_(config.recompute),
      image_by_image_(config.vision_image_by_image),
      num_used_(used_blocks(config)),
      table_(table),
      embeddings_unit_(table.begin_unit("vis_encoder.embeddings")),
      class_embedding_(config_.traits().class_token
                           ? table.add(rooted(kClassEmbedding), {config_.hidden_size},
                                       ParamRole::kEmbedding, Init::kNone)
                           : nullptr),
      patch_embedding_(table.add(rooted(config_.traits().names->patches) + ".weight",
                                 {config_.hidden_size, 3, config_.patch_size, config_.patch_size},
                                 ParamRole::kWeight, Init::kNone)),
      patch_bias_(config_.traits().patch_bias
                      ? table.add(rooted(config_.traits().names->patches) + ".bias",
                                  {config_.hidden_size}, ParamRole::kBias, Init::kNone)
                      : nullptr),
      position_embedding_(
          table.add(rooted(config_.traits().names->positions),
                    {class_tokens() + config_.grid() * config_.grid(), config_.hidden_size},
                    ParamRole::kEmbedding, Init::kNone)) {
  if (config_.traits().pre_norm)
    pre_norm_.emplace(table, rooted(config_.traits().names->pre_norm), config_.hidden_size,
                      config_.layer_norm_eps);
  const bool norms_feature = config.norms_feature();
  if (!norms_feature) declare_post_norm(table, norms_feature);
  declare_blocks(table, config.vis_lora);
  if (norms_feature) declare_post_norm(table, norms_feature);
}

// Where the feature does not pass through it no gradient ever reaches it.
void VisionEncoder::declare_post_norm(ParamTable& table, bool in_feature) {
  const std::string name = rooted(config_.traits().names->post_norm);
  const bool pools = config_.traits().pool;
  if (in_feature)
    post_norm_unit_ =
        table.begin_unit(pools ? "vis_encoder.attn_pool" : "vis_encoder.post_layernorm");
  if (pools) declare_pool(table);
  LayerNorm norm(table, name, config_.feature_width(), config_.layer_norm_eps);
  if (in_feature) {
    post_norm_ = norm;
  } else {
    for (const char* part : {".weight", ".bias"}) table.find(name + part)->constant = true;
  }
}

// Its positions are sin-cos ones, not learned.
void VisionEncoder::declare_pool(ParamTable& table) {
  pool_.emplace(table, kRoot, "attn_pool.",
                AttentionPool::Shape{.queries = config_.pool_queries,
                                     .patches = patches_,
                                     .inputs = config_.hidden_size,
                                     .width = config_.pool_width,
                                     .eps = config_.layer_norm_eps,
                                     .kv_bias = PackedLinear::Bias::kNone},
                AttentionPool::Start());
  pool_->positions().constant = true;
}

void VisionEncoder::declare_blocks(ParamTable& table, const LoraConfig& lora) {
  for (int64_t n = 0; n < config_.num_hidden_layers; ++n) {
    block_units_.push_back(table.begin_unit("vis_encoder.layers." + std::to_string(n)));
    blocks_.emplace_back(table, kRoot, config_.traits().names->blocks + std::to_string(n) + ".",
                         config_, n < num_used_ ? lora : LoraConfig(), VisionBlock::Start());
    if (n < num_used_) continue;
    for (Param* param : table.units()[static_cast<size_t>(block_units_.back())].params)
      param->constant = true;
  }
  stage_inputs_.resize(blocks_.size() + 1);
  block_saved_.resize(blocks_.size());
}

int64_t VisionEncoder::lowest_trained() const {
  const auto trained = [&](int unit) {
    return any_trained(table_.units()[static_cast<size_t>(unit)]);
  };
  if (trained(embeddings_unit_)) return -1;
  for (int64_t n = 0; n < num_used_; ++n)
    if (trained(block_units_[static_cast<size_t>(n)])) return n;
  if (post_norm_ && !pool_ && trained(post_norm_unit_)) return num_used_;
  return num_stages();
}

bool VisionEncoder::trains_pool() const {
  return pool_ && any_trained(table_.units()[static_cast<size_t>(post_norm_unit_)]);
}

bool VisionEncoder::needs_backward() const {
  return lowest_trained() < num_stages() || trains_pool();
}

Tensor VisionEncoder::forward(Context& ctx, Tensor pixels, Keep keep) {
  pixels_ = pixels;
  images_ = pixels.size(0);
  if (!needs_backward()) keep = Keep::kNothing;
  const int64_t lowest = keep == Keep::kForBackward ? lowest_trained() : num_stages();
  group_ = image_by_image_ && !needs_backward() ? std::min<int64_t>(images_, 1) : images_;
  make_full_plan(plan_, group_, tokens(), tokens());
  const int64_t rows = images_ * tokens(), width = config_.hidden_size;
  const Tensor features = ctx.activation({images_ * tokens_out(), config_.feature_width()});
  const Arena::Mark mark = ctx.arena.mark();
  const Tensor x = drops_class_token_ || pool_ ? ctx.activation({rows, width}) : features;
  if (lowest == num_stages())
    run_below(ctx, lowest, x);
  else
    run_kept(ctx, lowest, x);
  if (pool_) run_pool(ctx, features, x, keep);
  for (int64_t i = 0; i < images_ && drops_class_token_; ++i)
    ctx.ops.copy(features.row_block(i * patches_, patches_), without_class_token(x, i));
  if (keep == Keep::kNothing) ctx.arena.release(mark);
  return features;
}

Tensor VisionEncoder::group_of(const Tensor& rows, int64_t begin) const {
  return rows.row_block(begin * tokens(), group_ * tokens());
}

Tensor VisionEncoder::pixels_of_group(int64_t begin) const {
  const int64_t rows = 3 * image_size_;  // of an image
  return pixels_.row_block(begin * rows, group_ * rows).view({group_, 3, image_size_, image_size_});
}

Tensor VisionEncoder::see(Context& ctx, const MicroBatch& batch, int64_t images, Keep keep,
                          FeatureSink* sink) {
  const ImageFeatures& features = batch.features;
  const int64_t given = images > 0 ? features.num_given() : 0;
  const bool rests = work_ == VisionWork::kAtRest;
  ASSERT(given == 0 || !needs_backward(), "features are given to an encoder that is trained");
  ASSERT(!rests || given == images, "the encoder rests, and {} of {} images are given", given,
         images);
  if (sink != nullptr) sink->given(given);
  if (rests) return features_given(ctx, features, images);
  if (given == 0) return see_pixels(ctx, batch, images, keep, sink);
  const Tensor all = ctx.activation({images * tokens_out(), config_.feature_width()});
  ArenaScope scope(ctx.arena);
  const Tensor computed = see_pixels(ctx, batch, images - given, keep, sink);
  join(ctx, features, computed, all);
  return all;
}

// Features of the images that have pixels.
Tensor VisionEncoder::see_pixels(Context& ctx, const MicroBatch& batch, int64_t images, Keep keep,
                                 FeatureSink* sink) {
  const Tensor pixels =
      ctx.input({images, 3, image_size_, image_size_}, DType::kF32, batch.pixels.data());
  const Tensor computed = forward(ctx, pixels, keep);
  if (sink != nullptr && images > 0 && !batch.features.keys.empty())
    tell(ctx, batch.features, computed, *sink);
  return computed;
}

void VisionEncoder::tell(Context& ctx, const ImageFeatures& features, const Tensor& computed,
                         FeatureSink& sink) {
  told_.resize(static_cast<size_t>(computed.bytes()));
  ctx.ops.copy_to_host(told_.data(), computed);
  const auto bytes = static_cast<size_t>(computed.row_block(0, tokens_out()).bytes());
  std::span<const std::byte> rest = told_;
  for (size_t i = 0; i < features.keys.size(); ++i) {
    if (features.gives(static_cast<int64_t>(i))) continue;
    sink.computed(features.keys[i], rest.first(bytes));
    rest = rest.subspan(bytes);
  }
}

// Of all images, one after the other.
Tensor VisionEncoder::features_given(const Context& ctx, const ImageFeatures& features,
                                     int64_t images) const {
  const int64_t rows = images * tokens_out(), width = config_.feature_width();
  const auto bytes = static_cast<size_t>(rows * width * size_of(ctx.dtype));
  ASSERT(images == 0 || features.values.size() >= bytes, "{} bytes of features, {} images have {}",
         features.values.size(), images, bytes);
  return ctx.input({rows, width}, ctx.dtype, features.values.data());
}

// all (I*tokens,C) = the features given and those computed, each at its image's place.
void VisionEncoder::join(Context& ctx, const ImageFeatures& features, const Tensor& computed,
                         const Tensor& all) {
  int64_t row = 0;
  const std::byte* next = features.values.data();
  for (int64_t i = 0; i < all.rows() / tokens_out(); ++i) {
    const Tensor of_image = all.row_block(i * tokens_out(), tokens_out());
    if (features.gives(i)) {
      ASSERT(next + of_image.bytes() <= features.values.data() + features.values.size(),
             "{} bytes of features, image {} needs {} more", features.values.size(), i,
             of_image.bytes());
      ctx.ops.copy_from_host(of_image, next);
      next += of_image.bytes();
    } else {
      ctx.ops.copy(of_image, computed.row_block(row, tokens_out()));
      row += tokens_out();
    }
  }
}

Tensor VisionEncoder::without_class_token(const Tensor& rows, int64_t image) const {
  return rows.row_block(image * tokens() + 1, patches_);
}

// x = the input of stage `end`; nothing else is kept in the arena.
void VisionEncoder::run_below(Context& ctx, int64_t end, Tensor x) {
  ArenaScope scope(ctx.arena);
  const Tensor other = ctx.activation({x.rows(), x.cols()});
  Tensor from = end % 2 == 0 ? x : other;
  Tensor to = end % 2 == 0 ? other : x;
  run_embeddings(ctx, from, Keep::kNothing);
  for (int64_t n = 0; n < end; ++n) {
    run_stage(ctx, n, to, from, Keep::kNothing);
    std::swap(to, from);
  }
}

// result = the feature; from stage `lowest` on (-1: with the embeddings) keeps what backward needs,
// with recompute only the blocks' inputs.
void VisionEncoder::run_kept(Context& ctx, int64_t lowest, Tensor result) {
  Tensor x = ctx.activation({result.rows(), result.cols()});
  if (lowest < 0)
    run_embeddings(ctx, x, Keep::kForBackward);
  else
    run_below(ctx, lowest, x);
  for (int64_t n = std::max<int64_t>(lowest, 0); n < num_stages(); ++n) {
    const bool last = n + 1 == num_stages();
    const Tensor y = last ? result : ctx.activation({result.rows(), result.cols()});
    stage_inputs_[static_cast<size_t>(n)] = x;
    run_stage(ctx, n, y, x, recompute_ ? Keep::kNothing : Keep::kForBackward);
    x = y;
  }
}

void VisionEncoder::run_stage(Context& ctx, int64_t stage, Tensor y, Tensor x, Keep keep) {
  if (stage < num_used_) return run_block(ctx, stage, y, x, keep);
  run_post_norm(ctx, y, x);
}

// Keeps its statistics in any case: they are small, and nothing follows in the arena.
void VisionEncoder::run_post_norm(Context& ctx, Tensor y, Tensor x) {
  ctx.hooks.before(post_norm_unit_, Phase::kForward);
  if (images_ > 0) post_norm_->forward(ctx, y, x, &post_norm_saved_);
  if (images_ > 0) ctx.hooks.wrote(post_norm_unit_, Phase::kForward, y);
  ctx.hooks.after(post_norm_unit_, Phase::kForward);
}

// features = post_norm(pool(x)).
void VisionEncoder::run_pool(Context& ctx, Tensor features, Tensor x, Keep keep) {
  ctx.hooks.before(post_norm_unit_, Phase::kForward);
  if (images_ > 0) {
    pool_input_ = x;
    pooled_ = ctx.activation({features.rows(), features.cols()});
    const Arena::Mark mark = ctx.arena.mark();
    for (int64_t i = 0; i < images_; i += group_) {
      pool_->forward(ctx, pooled_.row_block(i * tokens_out(), group_ * tokens_out()),
                     group_of(x, i));
      if (keep == Keep::kNothing) ctx.arena.release(mark);
    }
    post_norm_->forward(ctx, features, pooled_, &post_norm_saved_);
    ctx.hooks.wrote(post_norm_unit_, Phase::kForward, features);
  }
  ctx.hooks.after(post_norm_unit_, Phase::kForward);
}

void VisionEncoder::run_block(Context& ctx, int64_t block, Tensor y, Tensor x, Keep keep) {
  const size_t n = static_cast<size_t>(block);
  ctx.hooks.before(block_units_[n], Phase::kForward);
  for (int64_t i = 0; i < images_; i += group_)
    blocks_[n].forward(ctx, group_of(y, i), group_of(x, i), plan_, block_saved_[n], keep);
  if (images_ > 0) ctx.hooks.wrote(block_units_[n], Phase::kForward, y);
  ctx.hooks.after(block_units_[n], Phase::kForward);
}

void VisionEncoder::run_embeddings(Context& ctx, Tensor x, Keep keep) {
  const Arena::Mark mark = ctx.arena.mark();
  ctx.hooks.before(embeddings_unit_, Phase::kForward);
  if (images_ > 0) {
    embedded_ = pre_norm_ ? ctx.activation({x.rows(), x.cols()}) : x;
    for (int64_t i = 0; i < images_; i += group_) embed(ctx, group_of(embedded_, i), i);
    if (pre_norm_) pre_norm_->forward(ctx, x, embedded_, &pre_norm_saved_);
    ctx.hooks.wrote(embeddings_unit_, Phase::kForward, x);
  }
  ctx.hooks.after(embeddings_unit_, Phase::kForward);
  if (keep == Keep::kNothing) ctx.arena.release(mark);
}

// x = the tokens of the group of images that begins with `image`.
void VisionEncoder::embed(Context& ctx, Tensor x, int64_t image) const {
  ArenaScope scope(ctx.arena);
  const Tensor patches = ctx.activation({group_ * patches_, patch_embedding_->value.cols()});
  const Tensor projected = ctx.activation({group_ * patches_, config_.hidden_size});
  ctx.ops.patch_rows_forward(patches, pixels_of_group(image), config_.patch_size);
  ctx.ops.linear_forward(projected, patches, patch_embedding_->value,
                         patch_bias_ != nullptr ? patch_bias_->value : Tensor(), Tensor());
  if (class_embedding_ != nullptr)
    ctx.ops.vision_embed_forward(x, projected, class_embedding_->value, positions(ctx));
  else
    ctx.ops.add_repeated_rows_forward(x, projected, positions(ctx));
}

Tensor VisionEncoder::positions(Context& ctx) const {
  const Tensor stored = position_embedding_->value;
  const int64_t first = class_tokens();
  if (stored.rows() == tokens()) return stored;
  const Tensor resized = ctx.activation({tokens(), stored.cols()});
  if (first > 0) ctx.ops.copy(resized.row_block(0, first), stored.row_block(0, first));
  ctx.ops.resize_positions_forward(resized.row_block(first, patches_),
                                   stored.row_block(first, stored.rows() - first));
  return resized;
}

void VisionEncoder::backward(Context& ctx, Tensor dfeatures) {
  if (images_ == 0 || !needs_backward()) return skip_backward(ctx);
  if (pool_) return backward_from_pool(ctx, dfeatures);
  if (!drops_class_token_) return walk_backward(ctx, dfeatures);
  ArenaScope scope(ctx.arena);
  const Tensor dx = ctx.activation({images_ * tokens(), config_.hidden_size});
  ctx.ops.fill(dx, 0);
  for (int64_t i = 0; i < images_; ++i)
    ctx.ops.copy(without_class_token(dx, i), dfeatures.row_block(i * patches_, patches_));
  walk_backward(ctx, dx);
}

void VisionEncoder::skip_backward(Context& ctx) {
  pool_ ? backward_from_pool(ctx, Tensor()) : walk_backward(ctx, Tensor());
}

// dfeatures may be absent: then only the hooks are called.
void VisionEncoder::backward_from_pool(Context& ctx, Tensor dfeatures) {
  ArenaScope scope(ctx.arena);
  Tensor dx;
  if (dfeatures.defined()) dx = ctx.activation({images_ * tokens(), config_.hidden_size});
  if (needs_backward()) {
    ctx.hooks.before(post_norm_unit_, Phase::kBackward);
    if (dfeatures.defined()) {
      pool_backward(ctx, dx, dfeatures);
      ctx.hooks.wrote(post_norm_unit_, Phase::kBackward, dx);
    }
    ctx.hooks.after(post_norm_unit_, Phase::kBackward);
  }
  ctx.hooks.gradients_ready(post_norm_unit_);
  walk_backward(ctx, dx);
}

void VisionEncoder::pool_backward(Context& ctx, Tensor dx, Tensor dfeatures) {
  ArenaScope scope(ctx.arena);
  const Tensor dpooled = ctx.activation({dfeatures.rows(), dfeatures.cols()});
  post_norm_->backward(ctx, dpooled, dfeatures, pooled_, post_norm_saved_, Tensor());
  pool_->backward(ctx, dx, dpooled, pool_input_);
}

// dx: the gradient of the feature, including the class token; undefined: only calls the hooks.
void VisionEncoder::walk_backward(Context& ctx, Tensor dx) {
  const int64_t lowest = lowest_trained();
  if (post_norm_ && !pool_) {
    if (needs_backward()) post_norm_backward(ctx, dx);
    ctx.hooks.gradients_ready(post_norm_unit_);
  }
  for (int64_t n = config_.num_hidden_layers - 1; n >= 0; --n) {
    if (n < num_used_ && n >= lowest) block_backward(ctx, n, dx);
    ctx.hooks.gradients_ready(block_units_[static_cast<size_t>(n)]);
  }
  if (lowest < 0) {
    ctx.hooks.before(embeddings_unit_, Phase::kBackward);
    if (dx.defined()) embeddings_backward(ctx, dx);
    ctx.hooks.after(embeddings_unit_, Phase::kBackward);
  }
  ctx.hooks.gradients_ready(embeddings_unit_);
}

// dx: on entry the gradient of the feature, on return that of the last block's output.
void VisionEncoder::post_norm_backward(Context& ctx, Tensor dx) {
  ctx.hooks.before(post_norm_unit_, Phase::kBackward);
  if (dx.defined()) {
    ArenaScope scope(ctx.arena);
    const Tensor dfeature = ctx.activation({dx.rows(), dx.cols()});
    ctx.ops.copy(dfeature, dx);
    post_norm_->backward(ctx, dx, dfeature, stage_inputs_[static_cast<size_t>(num_used_)],
                         post_norm_saved_, Tensor());
    ctx.hooks.wrote(post_norm_unit_, Phase::kBackward, dx);
  }
  ctx.hooks.after(post_norm_unit_, Phase::kBackward);
}

void VisionEncoder::block_backward(Context& ctx, int64_t block, Tensor dx) {
  ArenaScope scope(ctx.arena);
  const size_t n = static_cast<size_t>(block);
  ctx.hooks.before(block_units_[n], Phase::kBackward);
  if (recompute_) {
    ctx.hooks.before(block_units_[n], Phase::kRecompute);
    if (dx.defined()) {
      const Tensor y = ctx.activation({dx.rows(), dx.cols()});
      blocks_[n].forward(ctx, y, stage_inputs_[n], plan_, block_saved_[n], Keep::kForBackward);
    }
    ctx.hooks.after(block_units_[n], Phase::kRecompute);
  }
  if (dx.defined()) blocks_[n].backward(ctx, dx, stage_inputs_[n], plan_, block_saved_[n]);
  if (dx.defined()) ctx.hooks.wrote(block_units_[n], Phase::kBackward, dx);
  ctx.hooks.after(block_units_[n], Phase::kBackward);
}

void VisionEncoder::embeddings_backward(Context& ctx, Tensor dx) {
  ArenaScope scope(ctx.arena);
  Tensor dembedded = dx;
  if (pre_norm_) {
    dembedded = ctx.activation({dx.rows(), dx.cols()});
    pre_norm_->backward(ctx, dembedded, dx, embedded_, pre_norm_saved_, Tensor());
  }
  Tensor dposition = position_embedding_->grad;
  const bool resized = dposition.defined() && dposition.rows() != tokens();
  if (resized) {
    dposition = ctx.arena.tensor({tokens(), config_.hidden_size});
    ctx.ops.fill(dposition, 0);
  }
  Tensor dprojected = dembedded;
  if (class_embedding_ != nullptr) {
    dprojected = ctx.activation({images_ * patches_, config_.hidden_size});
    ctx.ops.vision_embed_backward(dprojected, class_embedding_->grad, dposition, dembedded);
  } else if (dposition.defined()) {
    ctx.ops.add_repeated_rows_backward(dposition, dembedded);
  }
  if (resized) position_backward(ctx, dposition);
  patches_backward(ctx, dprojected);
}

void VisionEncoder::patches_backward(Context& ctx, Tensor dprojected) {
  const Tensor dbias = patch_bias_ != nullptr ? patch_bias_->grad : Tensor();
  if (!patch_embedding_->trained && !dbias.defined()) return;
  const Tensor patches = ctx.activation({images_ * patches_, patch_embedding_->value.cols()});
  ctx.ops.patch_rows_forward(patches, pixels_, config_.patch_size);
  ctx.ops.linear_backward_weight(patch_embedding_->grad, dbias, dprojected, patches);
}

// From the resized positions (tokens,C) back to the stored grid; the class position is never
// resized.
void VisionEncoder::position_backward(Context& ctx, Tensor dposition) {
  const Tensor grad = position_embedding_->grad;
  const int64_t first = class_tokens();
  if (first > 0) ctx.ops.add_accumulate(grad.row_block(0, first), dposition.row_block(0, first));
  ctx.ops.resize_positions_backward_accumulate(grad.row_block(first, grad.rows() - first),
                                               dposition.row_block(first, patches_));
}

}  // namespace facet
