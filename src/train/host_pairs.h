// Rounds in which every host meets another one, as players of a tournament do.
#pragma once

namespace facet {

// As many as it takes for each to meet all others.
int rounds_of_pairs(int hosts);
// Whom host `host` meets in a round (from 0); -1: nobody, for one of an odd number of hosts.
int partner_of(int host, int round, int hosts);

}  // namespace facet
