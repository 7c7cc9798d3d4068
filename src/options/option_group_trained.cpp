// The options of group "What is trained" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_trained_options(std::vector<OptionField>& t) {
  const auto trained = [&](const char* name, OptionMember member, OnResume on_resume,
                           const char* help) {
    return field(name, member, Group::kTrained, "t", on_resume, help);
  };
  t.push_back(trained("lang_lora_dim", &O::lang_lora_dim, kMustMatch,
                      "rank of LoRA in the language model; 0: no LoRA")
                  .in(0, 1 << 16));
  t.push_back(trained("lang_lora_alpha", &O::lang_lora_alpha, kMustMatch,
                      "LoRA's output is scaled by alpha / rank")
                  .in(0, 1e6));
  t.push_back(trained("lang_lora_rslora", &O::lang_lora_rslora, kMustMatch,
                      "rank-stabilised LoRA: scaled by alpha / sqrt(rank) instead"));
  t.push_back(
      trained("lang_lora_dora", &O::lang_lora_dora, kMustMatch,
              "DoRA: a magnitude is trained for each row of an adapted weight, beside LoRA"));
  t.push_back(trained("lang_lora_module_name", &O::lang_lora_module_name, kMustMatch,
                      "linear layers whose path in the language model contains this get LoRA"));
  t.push_back(trained("vis_lora_dim", &O::vis_lora_dim, kMustMatch,
                      "rank of LoRA in the vision encoder; 0: no LoRA")
                  .in(0, 1 << 16));
  t.push_back(trained("vis_lora_alpha", &O::vis_lora_alpha, kMustMatch,
                      "LoRA's output is scaled by alpha / rank")
                  .in(0, 1e6));
  t.push_back(trained("vis_lora_rslora", &O::vis_lora_rslora, kMustMatch,
                      "rank-stabilised LoRA: scaled by alpha / sqrt(rank) instead"));
  t.push_back(
      trained("vis_lora_dora", &O::vis_lora_dora, kMustMatch,
              "DoRA: a magnitude is trained for each row of an adapted weight, beside LoRA"));
  t.push_back(trained("vis_lora_module_name", &O::vis_lora_module_name, kMustMatch,
                      "linear layers whose path in the vision encoder contains this get LoRA"));
  t.push_back(trained("only_optimize_lora", &O::only_optimize_lora, kMustMatch,
                      "train nothing else inside the language model and the vision encoder"));
  t.push_back(trained("unfreeze", &O::unfreeze, kMustMatch,
                      "also train parameters whose names begin with one of these, e.g. "
                      "vis_encoder. lang_decoder."));
  t.push_back(trained("freeze", &O::freeze, kMustMatch,
                      "do not train parameters whose names begin with one of these; applied after "
                      "--unfreeze"));
}

}  // namespace facet
