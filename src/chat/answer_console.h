// How far the answers of facet generate are.
#pragma once

#include <cstdint>

#include "base/timer.h"
#include "comm/communicator.h"
#include "train/progress_bar.h"

namespace facet {

// Shows it on rank 0, by its own share of them: on a terminal a bar, elsewhere a line a minute.
class AnswerConsole {
 public:
  // `conversations` of this rank.
  AnswerConsole(int64_t conversations, const Communicator& world)
      : conversations_(conversations), shows_(world.rank() == 0) {}

  // So many of them are done, at least one.
  void show(int64_t done);

 private:
  int64_t conversations_;
  bool shows_;
  Timer since_start_, since_line_;
  ProgressBar bar_;
};

}  // namespace facet
