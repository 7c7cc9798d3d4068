// The lengths of samples as a picture: a histogram of each data set, with --max_seq_len and the
// length that keeps 99 % of the samples whole.
#pragma once

#include <string>

#include "train/data_stats_text.h"

namespace facet {

// The SVG text. The axis of lengths is logarithmic, and all bins are equally wide on it. A length
// of L tokens is spread from L - 1/2 to L + 1/2, so that bins narrower than a token make no comb.
// Samples whose length is not known are left out.
std::string length_histogram_svg(const DataStatsReport& report);

}  // namespace facet
