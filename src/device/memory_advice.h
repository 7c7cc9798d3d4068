// How less memory is taken, as errors say it where there is not enough.
#pragma once

#include <string>

namespace facet {

// What a training run does, or what another command has set at its start.
const std::string& memory_advice();
void set_memory_advice(std::string advice);

}  // namespace facet
