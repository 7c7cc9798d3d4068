// What squeue prints as the time that is left.
#include "job/slurm_time.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const auto seconds = parse_slurm_time(std::string(fuzz::text_of(data, size)));
    fuzz::require(!seconds || *seconds >= 0, "a negative time");
  });
}
