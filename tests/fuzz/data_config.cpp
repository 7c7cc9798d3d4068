// A mixture of data sets, as --data_config names it.
#include "data/data_config.h"

#include "common/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string path = fuzz::put("mix.json", fuzz::text_of(data, size));
  return fuzz::may_refuse([&] {
    for (const DatasetChoice& choice : read_data_config(path))
      fuzz::require(!choice.name.empty() && choice.concatenate >= 1 && choice.weight >= 0,
                    "a data set that cannot be");
  });
}
