// --inject kill@MOMENT:rank=R,step=S ends one rank by SIGKILL at a named moment of a step, so that
// a restart can be tried without luck in timing.
#pragma once

#include <cstdint>
#include <string>

namespace facet {

struct FaultInjection {
  std::string moment;  // empty: nothing is injected
  int64_t rank = 0;
  int64_t step = 0;

  // An empty text injects nothing. Throws Error(kUsage) that says what can be written.
  static FaultInjection parse(const std::string& text);

  // Does not return when this is the moment.
  void at(const std::string& now, int64_t my_rank, int64_t now_step) const;
};

}  // namespace facet
