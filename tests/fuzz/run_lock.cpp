// run.lock as another run left it.
#include "job/run_lock.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    fuzz::put("run.lock", fuzz::text_of(data, size));
    // A holder of another host has no time to show a sign of life.
    const LockRequest request{
        .output_dir = fuzz::scratch(),
        .times = {.beat = 60, .gone = 0.02, .silent = 0.02, .settle = 0, .poll = 0.001}};
    const RunLock lock(request);
    lock.dead_holder();
  });
}
