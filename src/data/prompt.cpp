#include "data/prompt.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/check.h"
#include "base/micro_batch.h"
#include "base/utf8.h"
#include "data/prompt_texts.h"

namespace facet {
namespace {

std::string numbered_header(int64_t image) { return fmt::format("### Image {}:", image); }

void number_header(const Tokenizer& tokenizer, int64_t image, std::vector<int32_t>& ids) {
  const auto header = std::find(ids.begin(), ids.end(), tokenizer.image_header_id());
  ASSERT(header != ids.end(), "a round with an image has no image header");
  const std::vector<int32_t> numbered = tokenizer.encode(numbered_header(image));
  ids.insert(ids.erase(header), numbered.begin(), numbered.end());
}

void check_text(std::string_view text, const char* what) {
  CHECK(is_utf8(text), ExitCode::kBadData,
        "the {} is not valid UTF-8 (half a surrogate pair, such as \\ud83d alone, counts as such)",
        what);
  CHECK(text.find(kImageText) == std::string_view::npos, ExitCode::kBadData,
        "the {} contains the text {}, which marks an image", what, kImageText);
}

void check_round(const Round& round) {
  check_text(round.question, "question");
  check_text(round.answer, "answer");
  CHECK(round.answer.find_first_not_of(" \t\r\n") != std::string::npos, ExitCode::kBadData,
        "the answer is empty");
}

}  // namespace

PromptBuilder::PromptBuilder(const Tokenizer& tokenizer, PromptConfig config)
    : tokenizer_(tokenizer), config_(std::move(config)) {
  ASSERT(config_.image_tokens > 0 && config_.max_seq_len > 0, "S {}, max_seq_len {}",
         config_.image_tokens, config_.max_seq_len);
  CHECK(config_.system_text.find(kImageText) == std::string::npos, ExitCode::kConfig,
        "--system_prompt_file: the text must not hold {}", kImageText);
  end_id_ = tokenizer.eos_id();
  if (config_.chat_template == "original") return;
  ASSERT(config_.style == PromptStyle::kCorrect, "--chat_template {}", config_.chat_template);
  template_ = &find_chat_template(config_.chat_template, tokenizer);
  config_.system_text = without_outer_spaces(config_.system_text);
  if (!template_->end_of_answer.empty()) end_id_ = *tokenizer.added_token(template_->end_of_answer);
  end_text_ = tokenizer.text_of_added(end_id_);
  if (tokenizer.bos_id()) begin_text_ = tokenizer.text_of_added(*tokenizer.bos_id());
}

// --compat visualchat: whether the text is encoded with unnumbered headers, each of which is one
// added token; the first such token is then replaced by the numbered header of the last image.
bool PromptBuilder::numbers_after_encoding(int64_t num_images, ImageNumbers numbers) const {
  if (config_.style != PromptStyle::kVisualChat || num_images == 0) return false;
  return numbers == ImageNumbers::kCountAtFirst ||
         (numbers == ImageNumbers::kAfterEncoding && num_images == 1);
}

bool PromptBuilder::opens_with_bos(int64_t round) const {
  return round == 0 || config_.style == PromptStyle::kVisualChat;
}

std::string PromptBuilder::prompt_text(std::string_view question, int64_t num_images,
                                       const Surroundings& around) const {
  std::string text(around.round == 0 ? around.system_text : std::string_view());
  for (int64_t i = 1; i <= num_images; ++i) {
    text += numbers_after_encoding(num_images, around.numbers)
                ? std::string(kImageHeaderText)
                : numbered_header(around.images_before + i);
    text += fmt::format("\n{}\n", kImageText);
  }
  if (num_images > 0) text += '\n';
  text += fmt::format("### Question:\n{}\n\n### Answer:\n", question);
  return text;
}

// The round up to its answer.
std::string PromptBuilder::template_text(std::string_view question, int64_t num_images,
                                         const Surroundings& around) const {
  const auto trimmed = [&](std::string_view part) {
    return template_->trims ? without_outer_spaces(part) : part;
  };
  std::string system;
  if (around.round == 0 && !around.system_text.empty())
    system = fmt::format("{}{}{}", template_->before_system, trimmed(around.system_text),
                         template_->after_system);
  std::string text = around.round == 0 ? begin_text_ : end_text_;
  if (around.round > 0) text += template_->after_answer;
  if (!template_->system_in_question) text += system;
  text += template_->before_question;
  if (template_->system_in_question) text += system;
  std::string content;
  for (int64_t i = 0; i < num_images; ++i) content += fmt::format("{}\n", kImageText);
  content += question;
  text += trimmed(content);
  return text += template_->after_question;
}

// The ids without that of the last answer's end, which only shows that this is no begin.
std::vector<int32_t> PromptBuilder::encode_template(std::string_view text, int64_t round) const {
  std::vector<int32_t> ids = tokenizer_.encode(text);
  if (round > 0 && !ids.empty() && ids[0] == end_id_) ids.erase(ids.begin());
  return ids;
}

std::vector<int32_t> PromptBuilder::encode_prompt(std::string_view text, int64_t round) const {
  std::vector<int32_t> ids = tokenizer_.encode(text);
  const std::optional<int32_t> bos = tokenizer_.bos_id();
  if (bos && opens_with_bos(round)) ids.insert(ids.begin(), *bos);
  return ids;
}

std::vector<int32_t> PromptBuilder::round_prompt(std::string_view question, int64_t num_images,
                                                 int64_t round, int64_t images_before,
                                                 ImageNumbers numbers) const {
  return prompt_ids(question, num_images, {round, images_before, numbers, config_.system_text});
}

TokenizedSample PromptBuilder::whole_round(const Round& round, int64_t number,
                                           int64_t images_before, ImageNumbers numbers) const {
  check_round(round);
  return tokenize_round(round, {number, images_before, numbers, config_.system_text});
}

std::vector<int32_t> PromptBuilder::prompt_ids(std::string_view question, int64_t num_images,
                                               const Surroundings& around) const {
  check_text(question, "question");
  if (template_ != nullptr)
    return encode_template(template_text(question, num_images, around), around.round);
  std::vector<int32_t> ids = encode_prompt(prompt_text(question, num_images, around), around.round);
  if (numbers_after_encoding(num_images, around.numbers))
    number_header(tokenizer_, around.images_before + num_images, ids);
  return ids;
}

// Prompt and answer encoded as one text, so that a token may span both, as compat and Transformers'
// apply_chat_template() do.
std::vector<int32_t> PromptBuilder::round_ids(const Round& round,
                                              const Surroundings& around) const {
  if (template_ != nullptr) {
    const std::string_view answer =
        template_->trims ? without_outer_spaces(round.answer) : round.answer;
    return encode_template(
        fmt::format("{}{}{}{}", template_text(round.question, round.num_images, around),
                    template_->before_answer, answer, end_text_),
        around.round);
  }
  std::vector<int32_t> ids = encode_prompt(
      prompt_text(round.question, round.num_images, around).append(round.answer), around.round);
  if (ids.back() != tokenizer_.eos_id()) ids.push_back(tokenizer_.eos_id());
  if (numbers_after_encoding(round.num_images, around.numbers))
    number_header(tokenizer_, around.images_before + round.num_images, ids);
  return ids;
}

// How many tokens of a round are its prompt's: as many as the prompt encoded alone has. With a
// template a token that spans both belongs to the answer, as in Transformers.
size_t PromptBuilder::unlearnt_length(const std::vector<int32_t>& prompt,
                                      const std::vector<int32_t>& round) const {
  if (template_ == nullptr) return std::min(prompt.size(), round.size());
  const auto first = std::mismatch(prompt.begin(), prompt.end(), round.begin(), round.end()).second;
  return static_cast<size_t>(first - round.begin());
}

TokenizedSample PromptBuilder::tokenize_round(const Round& round,
                                              const Surroundings& around) const {
  const std::vector<int32_t> prompt = prompt_ids(round.question, round.num_images, around);
  TokenizedSample result;
  if (template_ == nullptr && config_.style == PromptStyle::kCorrect) {
    const std::vector<int32_t> answer = tokenizer_.encode(round.answer);
    result.token_ids = prompt;
    result.token_ids.insert(result.token_ids.end(), answer.begin(), answer.end());
    result.token_ids.push_back(tokenizer_.eos_id());
  } else {
    result.token_ids = round_ids(round, around);
  }
  result.labels = result.token_ids;
  std::fill_n(result.labels.begin(), unlearnt_length(prompt, result.token_ids), kIgnoredLabel);
  result.num_images = round.num_images;
  return result;
}

bool PromptBuilder::surely_too_long(std::string_view text) const {
  return tokenizer_.exceeds(text, config_.max_seq_len);
}

// Of both together.
int64_t PromptBuilder::length_with_images(const TokenizedSample& sample,
                                          const TokenizedSample& next) const {
  const size_t tokens = sample.token_ids.size() + next.token_ids.size();
  return static_cast<int64_t>(tokens) +
         (sample.num_images + next.num_images) * (config_.image_tokens - 1);
}

std::string PromptBuilder::own_system_text(std::string_view text) const {
  check_text(text, "system text");
  CHECK(!surely_too_long(text), ExitCode::kBadData,
        "the system text has {} bytes, which are more tokens than --max_seq_len {}", text.size(),
        config_.max_seq_len);
  return template_ != nullptr ? std::string(text) : system_text_of(text);
}

TokenizedSample PromptBuilder::tokenize(std::span<const Round> rounds, ImageNumbers numbers,
                                        const std::optional<std::string>& system_text) const {
  CHECK(!rounds.empty(), ExitCode::kBadData, "the sample has no question");
  const std::string opening = system_text ? own_system_text(*system_text) : config_.system_text;
  TokenizedSample sample;
  for (const Round& round : rounds) {
    check_round(round);
    if (surely_too_long(round.question) || surely_too_long(round.answer)) {
      CHECK(sample.num_rounds > 0, ExitCode::kBadData,
            "the texts of the first round have {} bytes, which are more tokens than --max_seq_len "
            "{}",
            round.question.size() + round.answer.size(), config_.max_seq_len);
      break;
    }
    const TokenizedSample next =
        tokenize_round(round, {sample.num_rounds, sample.num_images, numbers, opening});
    if (const int64_t length = length_with_images(sample, next); length > config_.max_seq_len) {
      CHECK(sample.num_rounds > 0, ExitCode::kBadData,
            "the first round has {} tokens with its images, more than --max_seq_len {}", length,
            config_.max_seq_len);
      break;
    }
    sample.token_ids.insert(sample.token_ids.end(), next.token_ids.begin(), next.token_ids.end());
    sample.labels.insert(sample.labels.end(), next.labels.begin(), next.labels.end());
    sample.num_images += next.num_images;
    ++sample.num_rounds;
  }
  return sample;
}

}  // namespace facet
