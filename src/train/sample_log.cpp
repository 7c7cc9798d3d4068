#include "train/sample_log.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/check.h"
#include "io/file.h"
#include "io/json.h"

namespace facet {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxBytes = int64_t{1} << 32;

void resize(const std::string& path, int64_t bytes) {
  std::error_code error;
  fs::resize_file(path, static_cast<uintmax_t>(bytes), error);
  CHECK(!error, ExitCode::kIo, "{}: can't be cut back: {}", path, error.message());
}

int64_t size_of_file(const std::string& path) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

SampleLine read_sample(std::string_view line, const std::string& where) {
  const JsonDocument document = JsonDocument::parse(line, where);
  const JsonValue root = document.root();
  SampleLine sample;
  sample.step = root.at("step").as_int();
  sample.epoch = root.at("epoch").as_int();
  sample.samples = root.at("samples").as_int();
  sample.test = root.at("test").as_string();
  sample.round = root.at("round").as_int();
  for (const JsonValue image : root.at("images"))
    sample.question.images.emplace_back(image.as_string());
  sample.question.text = root.at("question").as_string();
  sample.answer.text = root.at("answer").as_string();
  sample.answer.tokens = root.at("tokens").as_int();
  sample.answer.seconds = root.at("seconds").as_double();
  sample.answer.stop_reason = root.at("stop_reason").as_string();
  sample.answer.error = root.get_string("error", "");
  return sample;
}

}  // namespace

std::string line_of(const SampleLine& sample) {
  JsonWriter writer(JsonLayout::kOneLine);
  writer.begin_object();
  writer.key("step").value(sample.step);
  writer.key("epoch").value(sample.epoch);
  writer.key("samples").value(sample.samples);
  writer.key("test").value(sample.test);
  writer.key("round").value(sample.round);
  writer.key("images").begin_array();
  for (const std::string& image : sample.question.images) writer.value(image);
  writer.end_array();
  writer.key("question").value(sample.question.text);
  writer.key("answer").value(sample.answer.text);
  writer.key("tokens").value(sample.answer.tokens);
  writer.key("seconds").value(sample.answer.seconds);
  writer.key("stop_reason").value(sample.answer.stop_reason);
  if (!sample.answer.error.empty()) writer.key("error").value(sample.answer.error);
  writer.end_object();
  return writer.take();
}

std::vector<SampleLine> sample_lines_of(std::string_view lines, const std::string& where) {
  std::vector<SampleLine> samples;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    samples.push_back(read_sample(lines.substr(0, end), where));
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return samples;
}

SampleLog::SampleLog(const std::string& output_dir, int64_t step)
    : path_(output_dir + "/samples.jsonl") {
  if (step > 0)
    cut_back(step);
  else
    std::rename(path_.c_str(), (path_ + ".previous").c_str());  // fails where there is none
}

// The lines are in the order of the steps. What a killed process left of a line is cut off too.
void SampleLog::cut_back(int64_t step) {
  if (size_of_file(path_) == 0) return;
  const std::string text = read_file(path_, kMaxBytes, ExitCode::kIo);
  const std::string_view whole = std::string_view(text).substr(0, text.rfind('\n') + 1);
  int64_t kept = 0;
  for (const SampleLine& sample : sample_lines_of(whole, path_)) {
    if (sample.step > step) break;
    kept = static_cast<int64_t>(text.find('\n', static_cast<size_t>(kept))) + 1;
    last_step_ = sample.step;
  }
  if (kept < static_cast<int64_t>(text.size())) resize(path_, kept);
}

void SampleLog::append(const std::vector<SampleLine>& samples) {
  std::string lines;
  for (const SampleLine& sample : samples) lines += line_of(sample);
  const int64_t before = size_of_file(path_);
  try {
    append_to_file(path_, lines);
  } catch (const Error&) {
    if (size_of_file(path_) > before) resize(path_, before);
    throw;
  }
  if (!samples.empty()) last_step_ = samples.back().step;
}

void SampleLog::sync() const {
  if (size_of_file(path_) > 0) sync_file(path_);
}

}  // namespace facet
