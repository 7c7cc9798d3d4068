// A file of lines in OUTPUT.unfinished of facet generate. What is read is written as it was.
#include "chat/generate_io.h"
#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  return fuzz::may_refuse([&] {
    std::string once, twice;
    for (const AnsweredTest& answered : answered_tests_of(fuzz::text_of(data, size), "lines"))
      once += line_of(answered);
    for (const AnsweredTest& answered : answered_tests_of(once, "written lines"))
      twice += line_of(answered);
    fuzz::require(once == twice, "a line is read back as another");
  });
}
