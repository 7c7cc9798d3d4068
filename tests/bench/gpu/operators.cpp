// The operators of a training step, measured where the step calls them.
#include "tests/bench/gpu/measuring_backend.h"
#include "tests/bench/gpu/reference.h"

namespace facet::bench {

void measure_operators(Bench& bench, Communicator& world, Mode mode, int64_t layers) {
  const VlmConfig config = reference_config(bench.scale, mode, layers);
  MeasuringBackend measuring(bench);
  ReferenceRun run(world, measuring, config, reference_batch(config, bench.scale));
  TrainStep step = run.steps();
  step.run(0, 0);
  measuring.begin_to_count();
  step.run(0, 1);
  measuring.begin_to_measure();
  step.run(0, 2);
  measuring.report_sums();
}

}  // namespace facet::bench
