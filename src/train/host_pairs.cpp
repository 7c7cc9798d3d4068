#include "train/host_pairs.h"

namespace facet {

namespace {

// The places of the tournament: with an odd number of hosts one stays empty.
int places(int hosts) { return hosts + hosts % 2; }

}  // namespace

int rounds_of_pairs(int hosts) { return hosts < 2 ? 0 : places(hosts) - 1; }

// All places but the last sit around a table of p = places - 1 seats; in round r those whose
// numbers add up to r, modulo p, meet. Who would meet itself meets the last place.
int partner_of(int host, int round, int hosts) {
  const int last = places(hosts) - 1;
  int partner = host;
  if (host == last)
    partner = round * (last + 1) / 2 % last;  // the half of r modulo the odd p
  else
    partner = ((round - host) % last + last) % last;
  if (partner == host) partner = last;
  return partner < hosts ? partner : -1;
}

}  // namespace facet
