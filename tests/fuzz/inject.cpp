// --inject and FACET_INJECT.
#include "common/target.h"
#include "job/fault_injection.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    const FaultInjection faults = FaultInjection::parse(std::string(fuzz::text_of(data, size)));
    fuzz::require(faults.poisons_gradients() || !faults.poisons_anybody(1), "a fault of nobody");
  });
}
