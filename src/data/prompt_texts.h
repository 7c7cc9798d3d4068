// The fixed texts of prompts. The files in data/prompts are compiled into the program; options name
// files that replace them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace facet {

// Contents of data/prompts/system.txt and caption_questions.txt.
extern const std::string_view kDefaultSystemText;
extern const std::string_view kDefaultCaptionQuestions;

// The system sentence, ended by one empty line as the prompt needs it. An empty path means the
// built-in one; else the file given with --system_prompt_file.
std::string load_system_text(const std::string& path);

// Questions for data sets that hold captions only, one a line. An empty path means the built-in
// list.
std::vector<std::string> load_caption_questions(const std::string& path);

}  // namespace facet
