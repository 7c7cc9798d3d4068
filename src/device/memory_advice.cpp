#include "device/memory_advice.h"

#include <utility>

namespace facet {

namespace {

std::string& current() {
  static std::string advice =
      "lower --per_device_train_batch_size or --max_seq_len, or give the program more ranks at a "
      "higher --zero_stage";
  return advice;
}

}  // namespace

const std::string& memory_advice() { return current(); }

void set_memory_advice(std::string advice) { current() = std::move(advice); }

}  // namespace facet
