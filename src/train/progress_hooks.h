// For passes without an engine, whose parameters are all here: each unit is a sign of life.
#pragma once

#include "base/progress.h"
#include "nn/context.h"

namespace facet {

class ProgressHooks : public UnitHooks {
 public:
  void before(int, Phase) override { note_progress(); }
};

}  // namespace facet
