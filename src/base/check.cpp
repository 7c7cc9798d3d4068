#include "base/check.h"

namespace facet::detail {

void assert_failed(const char* condition, const char* file, int line, const std::string& message) {
  throw Error(ExitCode::kInternal,
              fmt::format("{}:{}: internal error, please report it: {} [{} is false]", file, line,
                          message, condition));
}

}  // namespace facet::detail
