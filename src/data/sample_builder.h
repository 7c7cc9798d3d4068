// From a conversation with image files to token ids, labels and pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace facet {

// Letters: T tokens, I images, R pixels of an image's side.
struct PreparedSample {
  std::vector<int32_t> token_ids;  // (T) an image's place holds the image token
  std::vector<int32_t> labels;     // (T)
  std::vector<float> pixels;       // (I,3,R,R)
  int32_t num_images = 0;
};

class SampleBuilder {
 public:
  virtual ~SampleBuilder() = default;

  // Fills `out`, whose buffers are reused. Safe to call from several threads. Throws Error(kBadData
  // or kMissingInput) where the sample is bad: unreadable image, invalid text, too long. A round
  // that does not fit is left out with its images.
  virtual void build(const RawSample& sample, PreparedSample& out) const = 0;
  virtual int32_t image_token_id() const = 0;
  virtual int32_t image_size() const = 0;  // R
};

// build(), and around it the rules that hold for every builder: at least one round, no empty
// answer, at most max_images images, as many image places as images, at least one token to learn.
void build_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                   PreparedSample& out);

}  // namespace facet
