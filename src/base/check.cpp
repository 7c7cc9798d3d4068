#include "base/check.h"

namespace facet {

const char* name_of(ExitCode code) {
  switch (code) {
    case ExitCode::kOk: return "done";
    case ExitCode::kUsage: return "usage";
    case ExitCode::kBadData: return "bad_data";
    case ExitCode::kMissingInput: return "missing_input";
    case ExitCode::kInternal: return "internal";
    case ExitCode::kSystem: return "system";
    case ExitCode::kIo: return "io";
    case ExitCode::kConfig: return "config";
    case ExitCode::kSaved: return "saved";
    case ExitCode::kHang: return "hang";
    case ExitCode::kNumericStop: return "numeric_stop";
    case ExitCode::kDeadRank: return "dead_rank";
  }
  return "?";
}

}  // namespace facet

namespace facet::detail {

void assert_failed(const char* condition, const char* file, int line, const std::string& message) {
  throw Error(ExitCode::kInternal,
              fmt::format("{}:{}: internal error, please report it: {} [{} is false]", file, line,
                          message, condition));
}

}  // namespace facet::detail
