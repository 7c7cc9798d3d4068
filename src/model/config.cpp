#include "model/config.h"

namespace facet {

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
