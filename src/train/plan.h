// facet plan: what a training run would take, found out from the configuration files alone. Nothing
// of the size of the model is allocated, no other rank is needed, and no weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/memory_plan.h"
#include "train/options.h"

namespace facet {

struct RunPlan {
  // Elements of parameters.
  int64_t lora = 0, lang_embed = 0, projection = 0, other = 0;  // trained
  int64_t frozen = 0;
  int64_t trained() const { return lora + lang_embed + projection + other; }

  // Bytes of a rank.
  int64_t parameters = 0;
  int64_t gradients = 0;
  int64_t optimizer = 0;    // moments; with 16 bits the fp32 masters too
  int64_t live_blocks = 0;  // at stage 3: gathered parameters of the blocks in use
  int64_t buckets = 0;      // from stage 2 on: whole gradients of the blocks in backward
  int64_t activations = 0;  // as fp32 takes them
  int64_t memory() const {
    return parameters + gradients + optimizer + live_blocks + buckets + activations;
  }

  int64_t elements_sent = 0;     // by a rank in a step
  BatchShape counted;            // what the next is counted on
  int64_t flops = 0;             // of a rank in a step
  int64_t checkpoint_bytes = 0;  // of the whole run: masters and moments
  std::vector<std::string> notes;
};

RunPlan plan_run(const Options& options);
std::string plan_text(const RunPlan& plan, const Options& options);

// Prints the plan. Error(kConfig) when a rank needs more than --memory.
void plan_command(const Options& options);

}  // namespace facet
