// run.lock as another run left it.
#include "job/run_lock.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    fuzz::put("run.lock", fuzz::text_of(data, size));
    const RunLock lock(fuzz::scratch());
    lock.dead_holder();
  });
}
