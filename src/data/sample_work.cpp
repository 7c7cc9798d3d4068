#include "data/sample_work.h"

#include "base/micro_batch.h"

namespace facet {

SampleShape WorkModel::shape(const PreparedSample& text, int32_t image_token_id) const {
  SampleShape shape;
  for (size_t t = 0; t < text.token_ids.size(); ++t) {
    const bool image = text.token_ids[t] == image_token_id;
    shape.images += image;
    shape.labels += t > 0 && text.labels[t] != kIgnoredLabel;
    for (int64_t row = 0; row < (image ? image_tokens : 1); ++row) {
      ++shape.rows;
      if (!image || !images_apart) shape.pairs += shape.rows;
    }
  }
  return shape;
}

int64_t WorkModel::operations(const SampleShape& shape) const {
  return of_row * shape.rows + of_image * shape.images + of_label * shape.labels +
         of_pair * shape.pairs;
}

}  // namespace facet
