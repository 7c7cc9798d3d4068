#include "model/config.h"

#include "base/check.h"

namespace facet {

void check_shared(const LlamaConfig& config) {
  const int64_t ranks = config.group.size, heads = config.num_attention_heads,
                kv_heads = config.num_key_value_heads, columns = config.intermediate_size;
  const bool kv_fit = kv_heads % ranks == 0 || ranks % kv_heads == 0;
  CHECK(
      heads % ranks == 0 && kv_fit && columns % ranks == 0, ExitCode::kConfig,
      "--inference_tp_size {}: {} attention heads, {} key/value heads and {} feed-forward columns "
      "can't be shared evenly by {} ranks; name a size that divides them",
      ranks, heads, kv_heads, columns, ranks);
  CHECK(config.vocab_size >= ranks && config.hidden_size >= ranks, ExitCode::kConfig,
        "--inference_tp_size {}: {} tokens of width {} are too few for {} ranks", ranks,
        config.vocab_size, config.hidden_size, ranks);
}

int64_t VlmConfig::vision_tokens() const {
  if (vision.traits().pool) return vision.pool_queries;
  const int64_t grid = image_size / vision.patch_size;
  const bool class_token =
      vision.traits().class_token && !drop_class_token && projection != ProjectionKind::kPerceiver;
  return grid * grid + (class_token ? 1 : 0);
}

int64_t VlmConfig::image_tokens() const {
  return projection == ProjectionKind::kPerceiver ? kPerceiverQueries : vision_tokens();
}

}  // namespace facet
