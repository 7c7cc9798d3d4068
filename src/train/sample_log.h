// OUT/samples.jsonl: what the model answered to --sample_prompts while it was trained, an object a
// line: step, epoch, samples (seen before), test, round, images, question, answer, tokens, seconds,
// stop_reason; error where there is no answer. The answers after a step are written together or not
// at all. A run that resumes from a checkpoint cuts off what belongs to later steps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "train/sampled_answer.h"

namespace facet {

struct SampleLine {
  int64_t step = 0;
  int64_t epoch = 0;    // counts from 1
  int64_t samples = 0;  // that the model was trained on before
  std::string test;
  int64_t round = 0;
  Question question;
  SampledAnswer answer;
};

std::string line_of(const SampleLine& sample);
// Back from any number of such lines. Another text is Error(kBadData), which begins with `where`.
std::vector<SampleLine> sample_lines_of(std::string_view lines, const std::string& where);

class SampleLog {
 public:
  // Of a run that is at `step`. At step 0 a file that is there is kept as samples.jsonl.previous.
  SampleLog(const std::string& output_dir, int64_t step);

  int64_t last_step() const { return last_step_; }  // that has answers here; 0: none

  // Error(kIo): none of them is in the file.
  void append(const std::vector<SampleLine>& samples);
  // Flushes the lines to the disk.
  void sync() const;

 private:
  void cut_back(int64_t step);

  std::string path_;
  int64_t last_step_ = 0;
};

}  // namespace facet
