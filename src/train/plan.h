// facet plan: what a training run would take, worked out from the configuration files alone.
// Nothing of the model's size is allocated; neither weights nor other ranks are needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "options/options.h"
#include "train/disk_plan.h"
#include "train/measured_speed.h"
#include "train/questions.h"
#include "train/run_costs.h"

namespace facet {

struct RunPlan {
  // Numbers of elements.
  int64_t lora = 0, lang_embed = 0, projection = 0, other = 0;  // trained
  int64_t frozen = 0;
  int64_t trained() const { return lora + lang_embed + projection + other; }

  RunCosts costs;                // of a rank
  StepOperations operations;     // of a rank
  int64_t checkpoint_bytes = 0;  // of the whole run: masters and moments
  DiskPlan disk;
  std::string features;                // that --feature_cache would hold; "" without
  std::optional<MeasuredSpeed> speed;  // with --measured
  std::vector<std::string> notes;

  // Of a full step of all ranks.
  int64_t tokens(const Options& options) const;
  // Of a step at the speed that was measured.
  double seconds() const;
};

RunPlan plan_run(const Options& options, const OpenQuestions& open_questions = {});
std::string plan_text(const RunPlan& plan, const Options& options);

// Prints the plan. Error(kConfig) when a rank needs more than --memory.
void plan_command(const Options& options, const OpenQuestions& open_questions = {});

}  // namespace facet
