// For passes without an engine: every unit counts as progress for the watchdog.
#pragma once

#include "base/progress.h"
#include "nn/context.h"

namespace facet {

class ProgressHooks : public UnitHooks {
 public:
  void before(int, Phase) override { note_progress(); }
};

}  // namespace facet
