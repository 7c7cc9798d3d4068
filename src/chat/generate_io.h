// The files of facet generate: questions as JSON, answers as CSV or JSON Lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chat/answer.h"

namespace facet {

struct GenerationRound {
  std::string question;
  std::string image_text;                 // the paths as written in the file, separated by blanks
  std::vector<std::string> images;        // the paths, one by one
  std::vector<std::string> choices = {};  // given answers, for --score
  std::vector<std::string> right = {};    // right answers, where they are known
};

// The rounds of a test share one conversation.
struct GenerationTest {
  std::string name;
  std::vector<GenerationRound> rounds;
};

// {test: [[question, images?, choices?], ...]}, in the order of the file. Images are "path path" or
// ["path with a blank", ...], choices ["yes", "no"]. A round may also be an object {"question",
// "images", "choices", "answers"}, of which "answers", one or a list, are the right ones; with
// choices they are among these. Which of the two forms of a question: with choices for --score,
// without for all else.
enum class QuestionForm : uint8_t { kOpen, kWithChoices };
std::vector<GenerationTest> read_generation_tests(const std::string& path, QuestionForm form);

// Error(kMissingInput) that lists the images which are not there, the first 20 of them.
void check_images_are_there(const std::vector<GenerationTest>& tests);

// One conversation: the answers to all rounds of a test, the n-th of --num_answers.
struct AnsweredTest {
  int64_t test = 0;  // index
  int64_t number = 0;
  std::vector<Answer> rounds;
};

// Whether there is such a test, with so many rounds and choices of each.
bool is_answer_to(const std::vector<GenerationTest>& tests, const AnsweredTest& answered);

// A field by RFC 4180: quoted if it contains a comma, a quote or a line break.
std::string csv_field(const std::string& text);

enum class AnswerFormat : uint8_t {
  kCsv,          // test_name,image_path,question,answer
  kOriginalCsv,  // as batch_generation.py of DeepSpeed-VisualChat has it: lines end in CR LF, and a
                 // question without an image stands in image_path too
  kJsonLines,    // an object per round: test, answer_number, round, images, question, answer,
                 // tokens, seconds, stop_reason; logprobs, choices, right answers and what the
                 // answer is worth by them where there are any
};
// By the end of the file's name and --csv.
AnswerFormat answer_format(const std::string& path, const std::string& csv);

// The answers of one model, in the order of the tests; its name is "" where there is only one.
struct ModelAnswers {
  std::string model;
  std::vector<AnsweredTest> answers;
};

// Models with names have them in a column or a member "checkpoint", before all others, one model
// after the other; but the original's CSV has no names, and all models' answers to a test together.
void write_answers(const std::string& path, AnswerFormat format,
                   const std::vector<GenerationTest>& tests,
                   const std::vector<ModelAnswers>& models);

// A conversation as one line of JSON, and back from any number of such lines. Another text is
// Error(kBadData), which begins with `where`.
std::string line_of(const AnsweredTest& answered);
std::vector<AnsweredTest> answered_tests_of(std::string_view lines, const std::string& where);

}  // namespace facet
