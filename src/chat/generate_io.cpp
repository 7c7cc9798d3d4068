#include "chat/generate_io.h"

#include <sstream>

#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace {

GenerationRound read_round(const JsonValue& entry) {
  if (!entry.is_array() || entry.size() < 1 || entry.size() > 2)
    entry.reject("expected [question] or [question, \"image path image path\"]");
  GenerationRound round;
  round.question = entry.at(int64_t{0}).as_string();
  if (entry.size() == 2) round.image_text = entry.at(int64_t{1}).as_string();
  std::istringstream paths(round.image_text);
  for (std::string path; paths >> path;) round.images.push_back(path);
  return round;
}

}  // namespace

std::vector<GenerationTest> read_generation_tests(const std::string& path) {
  const JsonDocument document = JsonDocument::read(path);
  const JsonValue root = document.root();
  if (!root.is_object() || root.size() == 0)
    root.reject("expected an object of tests: {\"name\": [[question, \"image path\"], ...]}");
  std::vector<GenerationTest> tests;
  for (int64_t t = 0; t < root.size(); ++t) {
    const auto [name, rounds] = root.member(t);
    GenerationTest test{std::string(name), {}};
    if (!rounds.is_array() || rounds.size() == 0) rounds.reject("expected a list of rounds");
    for (const JsonValue round : rounds) test.rounds.push_back(read_round(round));
    tests.push_back(std::move(test));
  }
  return tests;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

void write_answers(const std::string& path, const std::vector<GenerationTest>& tests,
                   const std::vector<std::vector<std::string>>& answers) {
  std::string text = "test_name,image_path,question,answer\n";
  for (size_t t = 0; t < tests.size(); ++t)
    for (size_t r = 0; r < tests[t].rounds.size(); ++r) {
      const GenerationRound& round = tests[t].rounds[r];
      text += csv_field(tests[t].name) + ',' + csv_field(round.image_text) + ',' +
              csv_field(round.question) + ',' + csv_field(answers[t][r]) + '\n';
    }
  write_file(path, text);
}

}  // namespace facet
