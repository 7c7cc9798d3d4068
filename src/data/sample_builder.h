// From a conversation with image files to token ids, labels and pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "data/clip_preprocess.h"
#include "data/dataset.h"
#include "data/prompt.h"

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

// The builder of the program: prompts, SentencePiece and CLIP's pixels.
class ChatSampleBuilder : public SampleBuilder {
 public:
  // All three outlive the builder.
  ChatSampleBuilder(const Tokenizer& tokenizer, const PromptBuilder& prompt,
                    const ClipPreprocessor& preprocessor, int64_t max_image_pixels)
      : tokenizer_(tokenizer),
        prompt_(prompt),
        preprocessor_(preprocessor),
        max_image_pixels_(max_image_pixels) {}

  void build(const RawSample& sample, PreparedSample& out) const override;
  int32_t image_token_id() const override { return tokenizer_.image_id(); }
  int32_t image_size() const override { return static_cast<int32_t>(preprocessor_.image_size()); }

 private:
  const Tokenizer& tokenizer_;
  const PromptBuilder& prompt_;
  const ClipPreprocessor& preprocessor_;
  int64_t max_image_pixels_;
};

// build(), and around it the rules that hold for every builder: at least one round, no empty
// answer, at most max_images images, as many image places as images, at least one token to learn.
void build_checked(const SampleBuilder& builder, const RawSample& sample, int64_t max_images,
                   PreparedSample& out);

}  // namespace facet
