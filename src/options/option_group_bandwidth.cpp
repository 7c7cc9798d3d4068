// The options of group "Bandwidth" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_bandwidth_options(std::vector<OptionField>& t) {
  const auto bandwidth = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kBandwidth, "b", kNotOfTraining, help);
  };
  t.push_back(bandwidth("all_reduce_mib", &O::all_reduce_mib,
                        "sizes of the all-reduces, in MiB on each rank; a rank takes a little more "
                        "than three times the largest as memory")
                  .in(1.0 / 1024, 4096));
  t.push_back(bandwidth("repeats", &O::repeats,
                        "measure each so often, after one that does not count; the median is taken")
                  .in(1, 1 << 20));
}

}  // namespace facet
