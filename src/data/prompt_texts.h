// The fixed texts of prompts. The files in data/prompts are compiled into the program; options can
// replace them by other files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Contents of data/prompts/{system,caption_questions,why_phrases}.txt.
extern const std::string_view kDefaultSystemText;
extern const std::string_view kDefaultCaptionQuestions;
extern const std::string_view kDefaultWhyPhrases;

// A system text without blanks at its end, terminated by one empty line as the prompt needs it.
std::string system_text_of(std::string_view text);

// The system text, terminated by one empty line as the prompt needs it: built in if the path is
// empty, else from the file given with --system_prompt_file.
std::string load_system_text(const std::string& path);

// Questions for data sets of captions only, one per line; built in if the path is empty.
std::vector<std::string> load_caption_questions(const std::string& path);

// Phrases that follow a question and ask for the reasons of its answer, one per line; built in if
// the path is empty.
std::vector<std::string> load_why_phrases(const std::string& path);

}  // namespace facet
