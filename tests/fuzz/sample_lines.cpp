// Lines of OUT/samples.jsonl, which a continued run reads. What is read is written as it was.
#include "common/target.h"
#include "train/sample_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    std::string once, twice;
    for (const SampleLine& sample : sample_lines_of(fuzz::text_of(data, size), "lines"))
      once += line_of(sample);
    for (const SampleLine& sample : sample_lines_of(once, "written lines"))
      twice += line_of(sample);
    fuzz::require(once == twice, "a line is read back as another");
  });
}
