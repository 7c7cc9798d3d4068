// --replay: a file of recorded micro-batches.
#include "data/replay.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    Replay replay(fuzz::put("batches.h5", fuzz::text_of(data, size)), 0, 1);
    for (int64_t step = 0; step < replay.steps_per_epoch(); ++step)
      for (const MicroBatch& batch : replay.fetch_step(0, step))
        fuzz::require(batch.num_samples() >= 0 && batch.num_images() >= 0, "a negative number");
  });
}
