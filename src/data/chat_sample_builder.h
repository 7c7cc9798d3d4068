// The sample builder for training: prompts, SentencePiece and CLIP pixels.
#pragma once

#include <cstdint>

#include "data/clip_preprocess.h"
#include "data/prompt.h"
#include "data/sample_builder.h"
#include "data/tokenizer.h"

namespace facet {

class ChatSampleBuilder : public SampleBuilder {
 public:
  // All three must outlive the builder.
  ChatSampleBuilder(const Tokenizer& tokenizer, const PromptBuilder& prompt,
                    const ClipPreprocessor& preprocessor, int64_t max_image_pixels)
      : tokenizer_(tokenizer),
        prompt_(prompt),
        preprocessor_(preprocessor),
        max_image_pixels_(max_image_pixels) {}

  void build(const RawSample& sample, PreparedSample& out) const override;
  void build_text(const RawSample& sample, PreparedSample& out) const override;
  int32_t image_token_id() const override { return tokenizer_.image_id(); }
  int32_t image_size() const override { return static_cast<int32_t>(preprocessor_.image_size()); }

 private:
  void tokenize(const RawSample& sample, PreparedSample& out) const;

  const Tokenizer& tokenizer_;
  const PromptBuilder& prompt_;
  const ClipPreprocessor& preprocessor_;
  int64_t max_image_pixels_;
};

}  // namespace facet
