#include "train/fault_injection.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <regex>

#include "base/check.h"

namespace facet {

namespace {

// Behind a step; half of a rank's state written; all written, not yet named; named; before older
// checkpoints are removed.
constexpr std::array<const char*, 5> kMoments = {"step", "ckpt.write", "ckpt.rename", "ckpt.latest",
                                                 "ckpt.retention"};

}  // namespace

FaultInjection FaultInjection::parse(const std::string& text) {
  if (text.empty()) return {};
  static const std::regex kForm("kill@([a-z.]+):rank=([0-9]{1,9}),step=([0-9]{1,15})");
  std::smatch parts;
  CHECK(std::regex_match(text, parts, kForm) &&
            std::find(kMoments.begin(), kMoments.end(), parts[1].str()) != kMoments.end(),
        ExitCode::kUsage,
        "--inject '{}' is not kill@MOMENT:rank=R,step=S with a moment of step, ckpt.write, "
        "ckpt.rename, ckpt.latest, ckpt.retention",
        text);
  return {parts[1].str(), std::stoll(parts[2].str()), std::stoll(parts[3].str())};
}

void FaultInjection::at(const std::string& now, int64_t my_rank, int64_t now_step) const {
  if (now == moment && my_rank == rank && now_step == step) std::raise(SIGKILL);
}

}  // namespace facet
