// The files of facet generate: questions as JSON, answers as CSV.
#pragma once

#include <string>
#include <vector>

namespace facet {

struct GenerationRound {
  std::string question;
  std::string image_text;           // the paths as written in the file
  std::vector<std::string> images;  // the paths, one by one
};

// The rounds of a test share one conversation.
struct GenerationTest {
  std::string name;
  std::vector<GenerationRound> rounds;
};

// {test: [[question, "path path"?], ...]}, in the order of the file.
std::vector<GenerationTest> read_generation_tests(const std::string& path);

// A field by RFC 4180: quoted if it contains a comma, a quote or a line break.
std::string csv_field(const std::string& text);

// test_name,image_path,question,answer; answers[t][r] answers tests[t].rounds[r].
void write_answers(const std::string& path, const std::vector<GenerationTest>& tests,
                   const std::vector<std::vector<std::string>>& answers);

}  // namespace facet
