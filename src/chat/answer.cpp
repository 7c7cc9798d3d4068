#include "chat/answer.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace facet {
namespace {

constexpr std::array kNames = {"end_token",   "stop_string", "max_new_tokens",
                               "max_seq_len", "chosen",      "interrupted"};

}  // namespace

const char* name_of(StopReason reason) { return kNames.at(static_cast<size_t>(reason)); }

StopReason stop_reason_from_name(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  CHECK(found != kNames.end(), ExitCode::kBadData, "\"{}\" is no reason for which an answer ends",
        name);
  return static_cast<StopReason>(found - kNames.begin());
}

}  // namespace facet
