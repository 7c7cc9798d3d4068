// The options of group "Optimizer" in --help.
#include "optim/lr_schedule.h"
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

void add_optimizer_fields(std::vector<OptionField>& t) {
  const auto optim = [&](const char* name, OptionMember member, OnResume on_resume,
                         const char* help) {
    return field(name, member, Group::kOptimizer, "t", on_resume, help);
  };
  t.push_back(optim("learning_rate", &O::learning_rate, kMustMatch, "peak learning rate of AdamW")
                  .in(0, 1e3)
                  .usually_given());
  t.push_back(optim("learning_rate_pretraining_components",
                    &O::learning_rate_pretraining_components, kMustMatch,
                    "learning rate of parameters with embed in their names; 0: the same as "
                    "--learning_rate")
                  .in(0, 1e3));
  t.push_back(optim("lora_plus_ratio", &O::lora_plus_ratio, kMustMatch,
                    "LoRA+: the learning rate of LoRA's second matrices (lora_left_weight, PEFT's "
                    "lora_B), as a multiple of the others'")
                  .in(1, 1e6));
  t.push_back(optim("weight_decay", &O::weight_decay, kMustMatch,
                    "AdamW's weight decay; biases and norms have none")
                  .in(0, 1e3));
  t.push_back(optim("lr_scheduler_type", &O::lr_scheduler_type, kMustMatch,
                    "how the learning rate changes over the run")
                  .one_of(schedule_names()));
  t.push_back(optim("num_warmup_steps", &O::num_warmup_steps, kMustMatch,
                    "steps in which the rate rises from 0; up to 1: a fraction of all steps")
                  .in(0, 1e12));
  t.push_back(optim("adam_betas", &O::adam_betas, kMustMatch, "AdamW's two decay rates").in(0, 1));
  t.push_back(optim("adam_eps", &O::adam_eps, kMustMatch, "AdamW's epsilon").in(0, 1));
  t.push_back(optim("gradient_clipping", &O::gradient_clipping, kMustMatch,
                    "largest norm of all gradients together; 0: no clipping")
                  .in(0, 1e30));
}

// What the arithmetic rounds to may change: masters and moments are fp32 in every precision.
void add_loss_scale_fields(std::vector<OptionField>& t) {
  const auto scale = [&](const char* name, OptionMember member, OnResume on_resume,
                         const char* help) {
    return field(name, member, Group::kOptimizer, "t", on_resume, help);
  };
  t.push_back(scale("loss_scale", &O::loss_scale, kMayChange,
                    "fp16: factor by which the loss is multiplied; 0: adjusted after overflows")
                  .in(0, 1e30));
  t.push_back(scale("initial_scale_power", &O::initial_scale_power, kMayChange,
                    "fp16: the adjusted scale starts at 2 to this power")
                  .in(0, 60));
  t.push_back(scale("loss_scale_window", &O::loss_scale_window, kMayChange,
                    "fp16: the scale is doubled after this many steps without an overflow")
                  .in(1, 1LL << 40));
  t.push_back(scale("hysteresis", &O::hysteresis, kMayChange,
                    "fp16: the scale is halved at this overflow, counted since it last grew, and "
                    "at each one after it")
                  .in(1, 1 << 20));
  t.push_back(scale("min_loss_scale", &O::min_loss_scale, kMayChange,
                    "fp16: smallest scale; an overflow that would need a smaller one ends the run")
                  .in(0, 1e30));
}

}  // namespace

void add_optimizer_options(std::vector<OptionField>& t) {
  add_optimizer_fields(t);
  add_loss_scale_fields(t);
}

}  // namespace facet
