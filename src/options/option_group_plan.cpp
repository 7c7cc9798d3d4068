// The options of group "Plan" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_plan_options(std::vector<OptionField>& t) {
  const auto plan = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kPlan, "p", kNotOfTraining, help);
  };
  t.push_back(field("ranks", &O::ranks, Group::kPlan, "pd", kNotOfTraining,
                    "ranks of the planned run; data-stats takes those it runs on by default")
                  .in(1, 1 << 20)
                  .usually_given());
  t.push_back(plan("memory", &O::memory,
                   "GiB available to a rank; a run that needs more is an error; 0: no limit")
                  .in(0, 1e9)
                  .usually_given());
  t.push_back(plan("average_text_tokens", &O::average_text_tokens,
                   "count operations on samples of this many text tokens; 0: on the longest "
                   "samples")
                  .in(0, 1 << 24));
  t.push_back(plan("average_images", &O::average_images,
                   "images per sample, together with --average_text_tokens")
                  .in(0, 1 << 16));
  t.push_back(plan("measured", &O::measured,
                   "output directory of an earlier run on such ranks: seconds a step and tokens a "
                   "second are planned from the speed in its loss_log.csv")
                  .directory());
}

}  // namespace facet
