#include "data/chat_template.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace facet {

namespace {

constexpr ChatTemplate kTemplates[] = {
    // LLaMA-3's Instruct models.
    {.name = "llama3",
     .tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     .before_system = "<|start_header_id|>system<|end_header_id|>\n\n",
     .after_system = "<|eot_id|>",
     .before_question = "<|start_header_id|>user<|end_header_id|>\n\n",
     .after_question = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     .before_answer = "",
     .end_of_answer = "<|eot_id|>",
     .after_answer = "",
     .trims = true},
    // ChatML: Qwen2's Instruct models and many others.
    {.name = "chatml",
     .tokens = {"<|im_start|>", "<|im_end|>"},
     .before_system = "<|im_start|>system\n",
     .after_system = "<|im_end|>\n",
     .before_question = "<|im_start|>user\n",
     .after_question = "<|im_end|>\n<|im_start|>assistant\n",
     .before_answer = "",
     .end_of_answer = "<|im_end|>",
     .after_answer = "\n"},
    // Vicuna 1.1 to 1.5, and LLaVA 1.5 with it.
    {.name = "vicuna",
     .tokens = {},
     .before_system = "",
     .after_system = " ",
     .before_question = "USER: ",
     .after_question = " ASSISTANT:",
     .before_answer = " ",
     .end_of_answer = "",
     .after_answer = ""},
    // Mistral's Instruct models: from version 3 on the brackets are tokens.
    {.name = "mistral",
     .tokens = {"[INST]", "[/INST]"},
     .before_system = "",
     .after_system = "\n\n",
     .system_in_question = true,
     .before_question = "[INST] ",
     .after_question = "[/INST]",
     .before_answer = " ",
     .end_of_answer = "",
     .after_answer = ""},
    {.name = "mistral",
     .tokens = {},
     .before_system = "",
     .after_system = "\n\n",
     .system_in_question = true,
     .before_question = "[INST] ",
     .after_question = " [/INST]",
     .before_answer = " ",
     .end_of_answer = "",
     .after_answer = ""}};

// Of the row's tokens those that the tokenizer lacks.
std::vector<std::string_view> missing_tokens(const ChatTemplate& row, const Tokenizer& tokenizer) {
  std::vector<std::string_view> missing;
  for (const std::string_view token : row.tokens)
    if (!token.empty() && !tokenizer.added_token(token)) missing.push_back(token);
  return missing;
}

}  // namespace

std::vector<std::string> chat_template_names() {
  std::vector<std::string> names = {"original"};
  for (const ChatTemplate& row : kTemplates)
    if (std::find(names.begin(), names.end(), row.name) == names.end())
      names.emplace_back(row.name);
  return names;
}

bool fits_template(std::string_view name, const Tokenizer& tokenizer) {
  if (name == chat_template_names()[0]) return true;
  return std::ranges::any_of(kTemplates, [&](const ChatTemplate& row) {
    return row.name == name && missing_tokens(row, tokenizer).empty();
  });
}

const ChatTemplate& find_chat_template(std::string_view name, const Tokenizer& tokenizer) {
  std::vector<std::string_view> missing;
  for (const ChatTemplate& row : kTemplates) {
    if (row.name != name) continue;
    missing = missing_tokens(row, tokenizer);
    if (missing.empty()) return row;
  }
  ASSERT(!missing.empty(), "no chat template is called {}", name);
  fail(ExitCode::kConfig, "--chat_template {}: {} has no token {}; take the template of this model",
       name, tokenizer.file(), fmt::join(missing, ", "));
}

}  // namespace facet
