// The options of group "Steps" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

// How the samples of a step are divided among ranks and micro-batches may change: the size of the
// whole step is compared.
void add_steps_options(std::vector<OptionField>& t) {
  const auto step = [&](const char* name, OptionMember member, OnResume on_resume,
                        const char* help) {
    return field(name, member, Group::kSteps, "t", on_resume, help);
  };
  t.push_back(step("num_train_epochs", &O::num_train_epochs, kMayChange,  // but only grow
                   "passes over the training samples")
                  .in(1, 1 << 20)
                  .usually_given());
  t.push_back(step("max_steps", &O::max_steps, kMayChange,
                   "end after this many steps; 0: at the end of the last epoch")
                  .in(0, 1LL << 40));
  t.push_back(step("per_device_train_batch_size", &O::per_device_train_batch_size, kMayChange,
                   "samples per micro-batch on each rank")
                  .in(1, 1 << 16)
                  .usually_given());
  t.push_back(field("per_device_eval_batch_size", &O::per_device_eval_batch_size, Group::kSteps,
                    "te", kMayChange, "the same for evaluation")
                  .in(1, 1 << 16));
  t.push_back(step("gradient_accumulation_steps", &O::gradient_accumulation_steps, kMayChange,
                   "micro-batches per step on each rank")
                  .in(1, 1 << 16));
  t.push_back(
      step("tokens_per_micro_batch", &O::tokens_per_micro_batch, kMayChange,
           "fill micro-batches with samples up to so many tokens, those of images included, "
           "and deal a step's samples to the ranks by their operations; "
           "--per_device_train_batch_size x ranks x --gradient_accumulation_steps is still "
           "the number of samples of a step; 0: micro-batches by samples")
          .in(0, 1 << 24));
  t.push_back(step("loss_average", &O::loss_average, kMustMatch,
                   "global: mean over all labelled tokens of the step; micro_batch: mean of each "
                   "micro-batch, then the mean of these (always so with --compat visualchat)")
                  .one_of({"global", "micro_batch"}));
  t.push_back(field("seed", &O::seed, Group::kSteps, "tegc", kMustMatch,
                    "seed of the data order, of all draws and of parameters that no file provides")
                  .in(0, 9007199254740992.0));
  t.push_back(step("eval_interval", &O::eval_interval, kMayChange,
                   "evaluate every N steps; 0: after each epoch")
                  .in(0, 1LL << 40));
  t.push_back(step("max_bad_steps", &O::max_bad_steps, kMayChange,
                   "end after this many steps in a row without a finite gradient; those by which "
                   "fp16's loss scale finds its value do not count")
                  .in(1, 1 << 20));
}

}  // namespace facet
