// The sample builder for training: prompts, SentencePiece and CLIP pixels.
#pragma once

#include <cstdint>

#include "data/feature_cache.h"
#include "data/image_preprocess.h"
#include "data/prompt.h"
#include "data/sample_builder.h"
#include "data/tokenizer.h"

namespace facet {

class ChatSampleBuilder : public SampleBuilder {
 public:
  // All of them must outlive the builder. With a cache of features (nullptr: none), images found
  // there have no pixels.
  ChatSampleBuilder(const Tokenizer& tokenizer, const PromptBuilder& prompt,
                    const ImagePreprocessor& preprocessor, int64_t max_image_pixels,
                    const FeatureCache* cache = nullptr)
      : tokenizer_(tokenizer),
        prompt_(prompt),
        preprocessor_(preprocessor),
        max_image_pixels_(max_image_pixels),
        cache_(cache) {}

  void build(const RawSample& sample, PreparedSample& out) const override;
  void build_text(const RawSample& sample, PreparedSample& out) const override;
  int32_t image_token_id() const override { return tokenizer_.image_id(); }
  int32_t image_size() const override { return static_cast<int32_t>(preprocessor_.image_size()); }

 private:
  void tokenize(const RawSample& sample, PreparedSample& out) const;
  void add_image(const ImageRef& image, PreparedSample& out) const;

  const Tokenizer& tokenizer_;
  const PromptBuilder& prompt_;
  const ImagePreprocessor& preprocessor_;
  int64_t max_image_pixels_;
  const FeatureCache* cache_;
};

}  // namespace facet
