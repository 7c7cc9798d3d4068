// The questions of --sample_prompts as training sees them. Who asks them is above this room
// (chat/sample_questions.h): whoever starts a run hands in how they are opened.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/context.h"
#include "options/options.h"
#include "train/cut_model.h"
#include "train/model_setup.h"
#include "train/sampled_answer.h"

namespace facet {

class Questions {
 public:
  virtual ~Questions() = default;

  virtual size_t tests() const = 0;
  // A test's rounds are one conversation.
  virtual const std::string& name(size_t test) const = 0;
  virtual const std::vector<Question>& rounds(size_t test) const = 0;

  // Error(kMissingInput, kBadData) if an image is not there or cannot be decoded.
  virtual void check_images() const = 0;
  // For measuring: the largest passes that answers() can run into.
  virtual void run_largest_passes(Context& context, size_t test) const = 0;
  // One per round. An error of the data or of the numbers is thrown between two passes over the
  // model.
  virtual std::vector<SampledAnswer> answers(Context& context, size_t test) const = 0;

  // With --inference_tp_size the model that is asked; nullptr: it is the one that is trained.
  CutModel* cut() const { return cut_.get(); }
  void keep(std::unique_ptr<CutModel> cut) { cut_ = std::move(cut); }

 private:
  std::unique_ptr<CutModel> cut_;
};

// For a declared model with a tokenizer, which outlives the questions. Questions that cannot be
// read, or surely do not fit, are an Error.
using OpenQuestions =
    std::function<std::unique_ptr<Questions>(const Options& options, ModelSetup& model)>;

// Those that --sample_prompts names, as that rank of the job asks them; nullptr for none.
// Error(kConfig) without a tokenizer.
std::unique_ptr<Questions> questions_of(const Options& options, ModelSetup& model, int rank,
                                        const OpenQuestions& open);

}  // namespace facet
