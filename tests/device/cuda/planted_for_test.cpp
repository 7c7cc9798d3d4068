// Kernels with one mistake each, for scripts/gpu_check.sh: every tool of compute-sanitizer must see
// its own before it is believed about the others. Not for a run without the tool.
#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/device_buffer.h"
#include "tests/kernels/planted_bugs.h"

namespace facet::kernel_test {
namespace {

void run(void (*bug)(const BugRig&)) {
  const TestStream stream, other;
  const DeviceBuffer<float> x(std::vector<float>(256, 1), stream), y(64);
  bug({y.data(), x.data(), stream, other});
  stream.synchronize();
}

TEST(DISABLED_PlantedFor, memcheck) { run(bugs::global_write_past_end); }
TEST(DISABLED_PlantedFor, racecheck) { run(bugs::no_barrier); }
TEST(DISABLED_PlantedFor, initcheck) { run(bugs::global_unwritten); }
TEST(DISABLED_PlantedFor, synccheck) { run(bugs::barrier_against_shuffle); }

}  // namespace
}  // namespace facet::kernel_test
