// The options of group "Data-stats" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_data_stats_options(std::vector<OptionField>& t) {
  t.push_back(field("stats_svg", &O::stats_svg, Group::kDataStats, "d", kNotOfTraining,
                    "SVG file for the histogram of lengths; by default data_lengths.svg in "
                    "--output_dir, if that is given")
                  .new_file());
}

}  // namespace facet
