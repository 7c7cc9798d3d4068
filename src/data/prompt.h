// Turns the rounds of a conversation into token ids and labels.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/chat_template.h"
#include "data/tokenizer.h"

namespace facet {

// One question and its answer. The round's images come before its question.
struct Round {
  std::string_view question;  // the texts must outlive the round
  std::string_view answer;
  int64_t num_images = 0;
};

struct TokenizedSample {
  std::vector<int32_t> token_ids;  // (T) one <image> token at an image's place
  std::vector<int32_t> labels;     // (T) ids of answers and their end tokens, else kIgnoredLabel
  int64_t num_rounds = 0;          // rounds that fit
  int64_t num_images = 0;          // images of these rounds: the first ones of the sample
};

struct PromptConfig {
  PromptStyle style = PromptStyle::kCorrect;
  std::string system_text;                 // see prompt_texts.h; precedes the first round
  int64_t image_tokens = 0;                // S: tokens per image in the model
  int64_t max_seq_len = 0;                 // bound on L = T + num_images * (S - 1)
  std::string chat_template = "original";  // see chat_template.h; others with kCorrect only
};

class PromptBuilder {
 public:
  // The tokenizer must outlive the builder.
  PromptBuilder(const Tokenizer& tokenizer, PromptConfig config);

  // Rounds that exceed max_seq_len are dropped from the end with their images. A bad sample (no
  // round, empty answer, text that isn't UTF-8, `<image>` inside a text, first round too long) is
  // Error(ExitCode::kBadData).
  // `system_text`: of this sample, instead of the configured one; with a template as it is, white
  // space and all.
  TokenizedSample tokenize(std::span<const Round> rounds,
                           ImageNumbers numbers = ImageNumbers::kAfterEncoding,
                           const std::optional<std::string>& system_text = {}) const;

  // Whether a round with this question or answer surely has more than max_seq_len tokens; quick for
  // a text of any length.
  bool surely_too_long(std::string_view text) const;

  // Everything in a round before its answer, for generation. `round` counts from 0; images_before
  // is the number of images in earlier rounds. A conversation is prompt(0), answer ids, end_id(),
  // prompt(1), ...
  std::vector<int32_t> round_prompt(std::string_view question, int64_t num_images, int64_t round,
                                    int64_t images_before,
                                    ImageNumbers numbers = ImageNumbers::kAfterEncoding) const;
  // The same round with its answer, as training has it; labels at the answer and its end. An empty
  // answer is Error(kBadData).
  TokenizedSample whole_round(const Round& round, int64_t number, int64_t images_before,
                              ImageNumbers numbers = ImageNumbers::kAfterEncoding) const;
  int32_t end_id() const { return end_id_; }  // the token at the end of each answer

 private:
  // What of a round's prompt depends on the sample around it.
  struct Surroundings {
    int64_t round = 0, images_before = 0;
    ImageNumbers numbers = ImageNumbers::kAfterEncoding;
    std::string_view system_text;
  };

  int64_t length_with_images(const TokenizedSample& sample, const TokenizedSample& next) const;
  std::vector<int32_t> round_ids(const Round& round, const Surroundings& around) const;
  size_t unlearnt_length(const std::vector<int32_t>& prompt,
                         const std::vector<int32_t>& round) const;
  TokenizedSample tokenize_round(const Round& round, const Surroundings& around) const;
  std::vector<int32_t> prompt_ids(std::string_view question, int64_t num_images,
                                  const Surroundings& around) const;
  std::string prompt_text(std::string_view question, int64_t num_images,
                          const Surroundings& around) const;
  std::string template_text(std::string_view question, int64_t num_images,
                            const Surroundings& around) const;
  std::vector<int32_t> encode_template(std::string_view text, int64_t round) const;
  std::string own_system_text(std::string_view text) const;
  bool numbers_after_encoding(int64_t num_images, ImageNumbers numbers) const;
  std::vector<int32_t> encode_prompt(std::string_view text, int64_t round) const;
  bool opens_with_bos(int64_t round) const;

  const Tokenizer& tokenizer_;
  PromptConfig config_;
  const ChatTemplate* template_ = nullptr;  // nullptr: original
  int32_t end_id_ = 0;
  std::string begin_text_, end_text_;  // with a template: BOS or "", and the end token
};

}  // namespace facet
