// Text as question and answer: token ids and labels, and the text of the ids.
#include <span>

#include "common/target.h"
#include "data/prompt.h"
#include "data/tokenizer.h"

namespace facet {
namespace {

constexpr int64_t kMaxSeqLen = 256;

const Tokenizer& tokenizer() {
  static const Tokenizer of_llama = [] {
    fuzz::put("tokenizer.model", fuzz::fixture("tests/golden/data/tokenizer.model"));
    return Tokenizer(fuzz::scratch(), PromptStyle::kCorrect);
  }();
  return of_llama;
}

void tokenize(PromptStyle style, const std::string& form, const std::string& question,
              const std::string& answer) {
  const PromptBuilder prompt(tokenizer(), {style, "system\n\n", 4, kMaxSeqLen, form});
  const std::vector<Round> rounds = {{question, answer, 1}, {answer, question, 0}};
  const TokenizedSample sample = prompt.tokenize(rounds);
  fuzz::require(sample.token_ids.size() == sample.labels.size(), "a label for each token");
  fuzz::require(static_cast<int64_t>(sample.token_ids.size()) + 3 * sample.num_images <= kMaxSeqLen,
                "longer than max_seq_len");
  for (const int32_t id : sample.token_ids)
    fuzz::require(id >= 0 && id < tokenizer().vocab_size(), "an id beyond the vocabulary");
}

}  // namespace
}  // namespace facet

// The first line is the question, the rest the answer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string text(fuzz::text_of(data, size));
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string question = text.substr(0, end),
                    answer = text.substr(std::min(end + 1, text.size()));
  for (const PromptStyle style : {PromptStyle::kCorrect, PromptStyle::kVisualChat})
    fuzz::may_refuse([&] { tokenize(style, "original", question, answer); });
  fuzz::may_refuse([&] { tokenize(PromptStyle::kCorrect, "vicuna", question, answer); });
  return fuzz::may_refuse([&] { tokenizer().decode(tokenizer().encode(text)); });
}
