#include "train/questions.h"

#include "base/check.h"

namespace facet {

std::unique_ptr<Questions> questions_of(const Options& options, ModelSetup& model, int rank,
                                        const OpenQuestions& open_questions) {
  if (options.sample_prompts.empty()) return nullptr;
  CHECK(model.tokenizer != nullptr, ExitCode::kConfig,
        "--sample_prompts are text, and {} has no tokenizer", options.lm_model_name_or_path);
  ASSERT(open_questions, "nobody can open --sample_prompts");
  if (options.inference_tp_size == 1) return open_questions(options, model);
  auto cut = std::make_unique<CutModel>(options, rank);
  std::unique_ptr<Questions> questions = open_questions(options, cut->setup());
  questions->keep(std::move(cut));
  return questions;
}

}  // namespace facet
