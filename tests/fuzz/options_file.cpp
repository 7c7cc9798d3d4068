// --config: what is accepted must read back from options.cfg as the same options.
#include "common/target.h"
#include "options/options.h"

namespace facet {
namespace {

std::string resolved(std::string_view text) {
  const std::string path = fuzz::put("options.cfg", text);
  const ParsedOptions parsed = parse_options(Command::kTrain, {"--config", path}, 1);
  return resolved_options(Command::kTrain, parsed.options);
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  std::string once;
  fuzz::may_refuse([&] { once = resolved(fuzz::text_of(data, size)); });
  if (once.empty()) return 0;
  fuzz::require(resolved(once) == once, "options.cfg reads back as other options");
  return 0;
}
