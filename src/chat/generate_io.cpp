#include "chat/generate_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "chat/answer_metrics.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace {

// ---- questions

constexpr const char* kForms[] = {
    "expected [question], [question, \"image path image path\"], [question, [\"image path\", "
    "...]], or an object with \"question\" and, where there are any, \"images\" and \"answers\"",
    "expected [question, images, [\"choice\", \"choice\", ...]] with two choices or more, which "
    "--score compares; images: \"path path\" or a list; or an object with \"question\", "
    "\"choices\" "
    "and, where there are any, \"images\" and \"answers\""};

std::vector<std::string> strings_of(const JsonValue& list) {
  std::vector<std::string> strings;
  for (const JsonValue entry : list) strings.emplace_back(entry.as_string());
  return strings;
}

void read_images(const JsonValue& images, GenerationRound& round) {
  if (images.is_array()) {
    round.images = strings_of(images);
    round.image_text = fmt::format("{}", fmt::join(round.images, " "));
    return;
  }
  round.image_text = images.as_string();
  std::istringstream paths(round.image_text);
  for (std::string path; paths >> path;) round.images.push_back(path);
}

void read_choices(const JsonValue& choices, GenerationRound& round) {
  if (!choices.is_array() || choices.size() < 2) choices.reject(kForms[1]);
  round.choices = strings_of(choices);
}

// [question, images?, choices?]
GenerationRound round_of_list(const JsonValue& entry, bool scored) {
  if (entry.size() < (scored ? 3 : 1) || entry.size() > (scored ? 3 : 2))
    entry.reject(kForms[scored]);
  GenerationRound round;
  round.question = entry.at(int64_t{0}).as_string();
  if (entry.size() > 1) read_images(entry.at(int64_t{1}), round);
  if (scored) read_choices(entry.at(int64_t{2}), round);
  return round;
}

void read_right_answers(const JsonValue& answers, GenerationRound& round) {
  if (answers.is_array())
    round.right = strings_of(answers);
  else
    round.right = {std::string(answers.as_string())};
  if (round.right.empty()) answers.reject("no right answer in it; leave it out");
  if (round.choices.empty()) return;
  for (const std::string& right : round.right)
    if (std::find(round.choices.begin(), round.choices.end(), right) == round.choices.end())
      answers.reject(fmt::format("{} is none of the choices", json_string(right)));
}

// {"question", "images"?, "choices"?, "answers"?}
GenerationRound round_of_object(const JsonValue& entry, bool scored) {
  for (int64_t i = 0; i < entry.size(); ++i) {
    const std::string_view key = entry.member(i).first;
    if (key != "question" && key != "images" && key != "answers" && !(scored && key == "choices"))
      entry.reject(fmt::format("{} means nothing here; {}", json_string(key), kForms[scored]));
  }
  GenerationRound round;
  round.question = entry.at("question").as_string();
  if (const auto images = entry.find("images")) read_images(*images, round);
  if (scored) read_choices(entry.at("choices"), round);
  if (const auto answers = entry.find("answers")) read_right_answers(*answers, round);
  return round;
}

GenerationRound read_round(const JsonValue& entry, QuestionForm form) {
  const bool scored = form == QuestionForm::kWithChoices;
  if (entry.is_object()) return round_of_object(entry, scored);
  if (!entry.is_array()) entry.reject(kForms[scored]);
  return round_of_list(entry, scored);
}

}  // namespace

std::vector<GenerationTest> read_generation_tests(const std::string& path, QuestionForm form) {
  const JsonDocument document = JsonDocument::read(path);
  const JsonValue root = document.root();
  if (!root.is_object() || root.size() == 0)
    root.reject("expected an object of tests: {\"name\": [[question, \"image path\"], ...]}");
  std::vector<GenerationTest> tests;
  for (int64_t t = 0; t < root.size(); ++t) {
    const auto [name, rounds] = root.member(t);
    GenerationTest test{std::string(name), {}};
    if (!rounds.is_array() || rounds.size() == 0) rounds.reject("expected a list of rounds");
    for (const JsonValue round : rounds) test.rounds.push_back(read_round(round, form));
    tests.push_back(std::move(test));
  }
  return tests;
}

void check_images_are_there(const std::vector<GenerationTest>& tests) {
  constexpr int64_t kShown = 20;
  std::string missing;
  int64_t count = 0;
  for (const GenerationTest& test : tests)
    for (const GenerationRound& round : test.rounds)
      for (const std::string& image : round.images)
        if (std::error_code error;
            !std::filesystem::is_regular_file(image, error) && count++ < kShown)
          missing += fmt::format("\n  {} (test {})", image, test.name);
  if (count > kShown) missing += fmt::format("\n  and {} more", count - kShown);
  CHECK(missing.empty(), ExitCode::kMissingInput,
        "images named by the questions are not there, or no regular files:{}", missing);
}

// ---- answers

bool is_answer_to(const std::vector<GenerationTest>& tests, const AnsweredTest& answered) {
  if (answered.test < 0 || answered.test >= static_cast<int64_t>(tests.size())) return false;
  const std::vector<GenerationRound>& rounds = tests[static_cast<size_t>(answered.test)].rounds;
  return std::equal(rounds.begin(), rounds.end(), answered.rounds.begin(), answered.rounds.end(),
                    [](const GenerationRound& round, const Answer& answer) {
                      return answer.choices.empty() ||
                             answer.choices.size() == round.choices.size();
                    });
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

AnswerFormat answer_format(const std::string& path, const std::string& csv) {
  if (path.ends_with(".jsonl")) return AnswerFormat::kJsonLines;
  return csv == "original" ? AnswerFormat::kOriginalCsv : AnswerFormat::kCsv;
}

namespace {

std::string csv_record(AnswerFormat format, const std::string& test, const GenerationRound& round,
                       const Answer& answer) {
  const bool original = format == AnswerFormat::kOriginalCsv;
  const std::string& images = original && round.images.empty() ? round.question : round.image_text;
  return fmt::format("{},{},{},{}{}", csv_field(test), csv_field(images), csv_field(round.question),
                     csv_field(answer.text), original ? "\r\n" : "\n");
}

void write_strings(JsonWriter& writer, const char* key, const std::vector<std::string>& strings) {
  writer.key(key).begin_array();
  for (const std::string& text : strings) writer.value(text);
  writer.end_array();
}

// The members that the output and the journal share.
void write_answer(JsonWriter& writer, const Answer& answer) {
  writer.key("answer").value(answer.text);
  writer.key("tokens").value(answer.tokens);
  writer.key("seconds").value(answer.seconds);
  writer.key("stop_reason").value(name_of(answer.stop_reason));
  if (answer.logprobs.empty()) return;
  writer.key("logprobs").begin_array();
  for (const double logprob : answer.logprobs) writer.value(logprob);
  writer.end_array();
}

void write_scores(JsonWriter& writer, const std::vector<ChoiceScore>& scores,
                  const std::vector<std::string>& texts) {
  if (scores.empty()) return;
  writer.key("choices").begin_array();
  for (size_t i = 0; i < scores.size(); ++i) {
    writer.begin_object();
    if (!texts.empty()) writer.key("answer").value(texts[i]);
    writer.key("logprob").value(scores[i].logprob);
    writer.key("tokens").value(scores[i].tokens);
    writer.end_object();
  }
  writer.end_array();
}

// What is right, and what the answer is worth by it.
void write_judgement(JsonWriter& writer, const GenerationRound& round, const Answer& answer) {
  if (round.right.empty()) return;
  write_strings(writer, "right_answers", round.right);
  const JudgedAnswer judged{answer.text, round.right};
  writer.key("exact_match").value(exact_match(judged));
  writer.key("contains").value(contains_right(judged));
  if (round.right.size() >= kFewestVqaAnswers)
    writer.key("vqa_accuracy").value(vqa_accuracy(judged));
}

std::string json_records(const std::string& model, const GenerationTest& test,
                         const AnsweredTest& answered) {
  std::string lines;
  for (size_t r = 0; r < test.rounds.size(); ++r) {
    JsonWriter writer(JsonLayout::kOneLine);
    writer.begin_object();
    if (!model.empty()) writer.key("checkpoint").value(model);
    writer.key("test").value(test.name);
    writer.key("answer_number").value(answered.number);
    writer.key("round").value(static_cast<int64_t>(r));
    write_strings(writer, "images", test.rounds[r].images);
    writer.key("question").value(test.rounds[r].question);
    write_answer(writer, answered.rounds[r]);
    write_scores(writer, answered.rounds[r].choices, test.rounds[r].choices);
    write_judgement(writer, test.rounds[r], answered.rounds[r]);
    writer.end_object();
    lines += writer.take();
  }
  return lines;
}

std::string csv_records(AnswerFormat format, const std::string& model, const GenerationTest& test,
                        const AnsweredTest& answered) {
  std::string lines;
  for (size_t r = 0; r < test.rounds.size(); ++r) {
    if (!model.empty()) lines += csv_field(model) + ",";
    lines += csv_record(format, test.name, test.rounds[r], answered.rounds[r]);
  }
  return lines;
}

std::string original_csv(const std::vector<GenerationTest>& tests,
                         const std::vector<ModelAnswers>& models) {
  std::string text = "test_name,image_path,question,answer\r\n";
  std::vector<size_t> next(models.size());  // of each model's answers
  for (size_t t = 0; t < tests.size(); ++t)
    for (size_t m = 0; m < models.size(); ++m) {
      const std::vector<AnsweredTest>& answers = models[m].answers;
      for (size_t& a = next[m]; a < answers.size(); ++a) {
        if (answers[a].test != static_cast<int64_t>(t)) break;
        text += csv_records(AnswerFormat::kOriginalCsv, "", tests[t], answers[a]);
      }
    }
  return text;
}

}  // namespace

void write_answers(const std::string& path, AnswerFormat format,
                   const std::vector<GenerationTest>& tests,
                   const std::vector<ModelAnswers>& models) {
  if (format == AnswerFormat::kOriginalCsv) return write_file(path, original_csv(tests, models));
  std::string text;
  if (format == AnswerFormat::kCsv)
    text = fmt::format("{}test_name,image_path,question,answer\n",
                       models.front().model.empty() ? "" : "checkpoint,");
  for (const ModelAnswers& of_model : models)
    for (const AnsweredTest& answered : of_model.answers) {
      const GenerationTest& test = tests[static_cast<size_t>(answered.test)];
      text += format == AnswerFormat::kJsonLines
                  ? json_records(of_model.model, test, answered)
                  : csv_records(format, of_model.model, test, answered);
    }
  write_file(path, text);
}

// ---- the journal's lines

std::string line_of(const AnsweredTest& answered) {
  JsonWriter writer(JsonLayout::kOneLine);
  writer.begin_object();
  writer.key("test").value(answered.test);
  writer.key("number").value(answered.number);
  writer.key("rounds").begin_array();
  for (const Answer& answer : answered.rounds) {
    writer.begin_object();
    write_answer(writer, answer);
    write_scores(writer, answer.choices, {});
    writer.end_object();
  }
  writer.end_array();
  writer.end_object();
  return writer.take();
}

namespace {

Answer read_answer(const JsonValue& entry) {
  Answer answer;
  answer.text = entry.at("answer").as_string();
  answer.tokens = entry.at("tokens").as_int();
  answer.seconds = entry.at("seconds").as_double();
  answer.stop_reason = stop_reason_from_name(entry.at("stop_reason").as_string());
  if (const auto logprobs = entry.find("logprobs"))
    for (const JsonValue logprob : *logprobs) answer.logprobs.push_back(logprob.as_double());
  if (const auto choices = entry.find("choices"))
    for (const JsonValue choice : *choices)
      answer.choices.push_back({choice.at("logprob").as_double(), choice.at("tokens").as_int()});
  return answer;
}

AnsweredTest read_answered_test(std::string_view line, const std::string& where) {
  const JsonDocument document = JsonDocument::parse(line, where);
  const JsonValue root = document.root();
  AnsweredTest answered{root.at("test").as_int(), root.at("number").as_int(), {}};
  for (const JsonValue entry : root.at("rounds")) answered.rounds.push_back(read_answer(entry));
  return answered;
}

}  // namespace

std::vector<AnsweredTest> answered_tests_of(std::string_view lines, const std::string& where) {
  std::vector<AnsweredTest> tests;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    tests.push_back(read_answered_test(lines.substr(0, end), where));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return tests;
}

}  // namespace facet
