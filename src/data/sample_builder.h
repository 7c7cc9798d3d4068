// Turns a conversation with image files into token ids, labels and pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "base/image_features.h"
#include "data/dataset.h"

namespace facet {

// Letters: T tokens, I images, R pixels of an image's side.
struct PreparedSample {
  std::vector<int32_t> token_ids;  // (T) the image token at an image's place
  std::vector<int32_t> labels;     // (T)
  std::vector<float> pixels;       // (I,3,R,R) without the images whose features are given
  int32_t num_images = 0;
  int64_t num_rounds = 0;  // that fit: the first ones of the sample
  ImageFeatures features = {};
};

class SampleBuilder {
 public:
  virtual ~SampleBuilder() = default;

  // Fills `out`, whose buffers are reused. Thread-safe. Throws Error(kBadData or kMissingInput) if
  // the sample is bad: unreadable image, invalid text, too long. Rounds that do not fit are dropped
  // with their images.
  virtual void build(const RawSample& sample, PreparedSample& out) const = 0;
  // The same without looking at an image: no pixels.
  virtual void build_text(const RawSample& sample, PreparedSample& out) const = 0;
  virtual int32_t image_token_id() const = 0;
  virtual int32_t image_size() const = 0;  // R
};

// The first round whose answer is empty or blank; the number of rounds if there is none.
size_t first_empty_answer(const RawSample& sample);

// build() with the checks common to all builders: at least one round, no empty answer, at most
// max_images images, as many image placeholders as images, at least one token to learn from.
void build_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                   PreparedSample& out);
// build_text() with the same checks.
void build_text_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                        PreparedSample& out);

}  // namespace facet
