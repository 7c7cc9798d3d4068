#include "data/sample_work.h"

#include "base/micro_batch.h"

namespace facet {

SampleShape WorkModel::shape(const PreparedSample& text, int32_t image_token_id) const {
  SampleShape shape;
  int64_t pairs_of_row = 0;
  for (size_t t = 0; t < text.token_ids.size(); ++t) {
    const bool image = text.token_ids[t] == image_token_id;
    shape.images += image;
    if (t > 0 && text.labels[t] != kIgnoredLabel) {
      ++shape.labels;
      shape.labelled_pairs += pairs_of_row;  // it is predicted at the row before
    }
    for (int64_t row = 0; row < (image ? image_tokens : 1); ++row) {
      ++shape.rows;
      pairs_of_row = image && images_apart ? 0 : shape.rows;
      shape.pairs += pairs_of_row;
    }
  }
  return shape;
}

int64_t WorkModel::operations(const SampleShape& shape) const {
  return of_row * shape.rows + of_image * shape.images + of_label * shape.labels +
         of_pair * shape.pairs + of_labelled_pair * shape.labelled_pairs;
}

}  // namespace facet
