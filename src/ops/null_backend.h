// A backend that computes nothing: every operator is checked and counted and returns at once, and
// touches no memory. With measuring arenas it finds out how much memory and how many operations a
// step takes before any is allocated.
#pragma once

#include "ops/ops.h"

namespace facet {

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define FACET_NULL_OPERATOR(result, name, ...) \
  result do_##name(__VA_ARGS__) override { return result(); }

class NullBackend : public Backend {
 protected:
  FACET_OPERATORS(FACET_NULL_OPERATOR)
};

#undef FACET_NULL_OPERATOR
#pragma GCC diagnostic pop

}  // namespace facet
