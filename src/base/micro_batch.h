// What the data code hands to the model: the samples of one rank's micro-batch, in host memory,
// packed back to back without padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/image_features.h"

namespace facet {

constexpr int32_t kIgnoredLabel = -100;

// Letters: B samples, I images in them, T text tokens of all samples together (an <image> place
// counts as one token here; the model replaces it by S image tokens), R pixels of an image's side.
struct MicroBatch {
  std::vector<int32_t> token_ids;  // (T) ids; image_token_id marks an image's place
  std::vector<int32_t> labels;  // (T) the token's id if it is to be predicted, else kIgnoredLabel
  std::vector<int32_t> sample_begin = {
      0};  // (B+1) sample b owns tokens [sample_begin[b], sample_begin[b+1])
  std::vector<int32_t> images_per_sample;  // (B) equals the number of image places of the sample
  // (I,3,R,R) normalised, images in the order of their places; without those whose features are
  // given.
  std::vector<float> pixels;
  ImageFeatures features;
  std::vector<int32_t> dataset_of_sample;  // (B) index into --dataset_names, for the log
  std::vector<int64_t> sample_ids;         // (B) global index in the training (or evaluation) split
  int32_t image_token_id = -1;
  int32_t image_size = 0;  // R

  int64_t num_samples() const { return static_cast<int64_t>(sample_begin.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_images() const {
    int64_t n = 0;
    for (const int32_t images : images_per_sample) n += images;
    return n;
  }
  // Labelled positions that contribute to the loss: a sample's first token has no predecessor and
  // never counts.
  int64_t num_labelled() const {
    int64_t n = 0;
    for (int64_t b = 0; b < num_samples(); ++b)
      for (int32_t t = sample_begin[static_cast<size_t>(b)] + 1;
           t < sample_begin[static_cast<size_t>(b) + 1]; ++t)
        n += labels[static_cast<size_t>(t)] != kIgnoredLabel;
    return n;
  }
};

}  // namespace facet
