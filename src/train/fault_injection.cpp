#include "train/fault_injection.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <string_view>

#include "base/check.h"

namespace facet {

namespace {

// Behind a step; half of a rank's state written; all written, not yet named; named; before older
// checkpoints are removed.
constexpr std::array<const char*, 5> kMoments = {"step", "ckpt.write", "ckpt.rename", "ckpt.latest",
                                                 "ckpt.retention"};

// All of the text as a number of 0 or more.
bool whole_number(std::string_view text, int64_t& number) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && rest == text.data() + text.size() && number >= 0;
}

}  // namespace

FaultInjection FaultInjection::parse(const std::string& text) {
  if (text.empty()) return {};
  constexpr std::string_view kKill = "kill@", kRank = ":rank=", kStep = ",step=";
  const size_t rank_at = text.find(kRank), step_at = text.find(kStep);
  FaultInjection injection;
  const bool read =
      text.starts_with(kKill) && rank_at != text.npos && step_at != text.npos &&
      rank_at < step_at &&
      whole_number(
          std::string_view(text).substr(rank_at + kRank.size(), step_at - rank_at - kRank.size()),
          injection.rank) &&
      whole_number(std::string_view(text).substr(step_at + kStep.size()), injection.step);
  if (read) injection.moment = text.substr(kKill.size(), rank_at - kKill.size());
  CHECK(read && std::find(kMoments.begin(), kMoments.end(), injection.moment) != kMoments.end(),
        ExitCode::kUsage,
        "--inject '{}' is not kill@MOMENT:rank=R,step=S with a moment of step, ckpt.write, "
        "ckpt.rename, ckpt.latest, ckpt.retention",
        text);
  return injection;
}

void FaultInjection::at(const std::string& now, int64_t my_rank, int64_t now_step) const {
  if (now == moment && my_rank == rank && now_step == step) std::raise(SIGKILL);
}

}  // namespace facet
