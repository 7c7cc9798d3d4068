#include "job/fault_injection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "base/check.h"

namespace facet {

namespace {

constexpr std::array<std::string_view, 16> kMoments = {
    "data",        "data.read",      "compute",      "log",        "evaluate",     "sample",
    "step",        "export",         "ckpt.begin",   "ckpt.write", "ckpt.written", "ckpt.rename",
    "ckpt.latest", "ckpt.retention", "ckpt.removal", "bandwidth"};

// The whole text as a number of 0 or more.
bool whole_number(std::string_view text, int64_t& number) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && rest == text.data() + text.size() && number >= 0;
}

// Removes and returns the text before the first separator; also removes the separator.
std::string_view take_until(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view piece = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return piece;
}

bool read_setting(std::string_view setting, Fault& fault) {
  const std::string_view key = take_until(setting, '=');
  int64_t* number = nullptr;
  if (key == "rank") number = &fault.rank;
  if (key == "step") number = &fault.step;
  if (key == "ms") number = &fault.milliseconds;
  return number != nullptr && *number < 0 && whole_number(setting, *number);
}

bool read_fault(std::string_view text, Fault& fault) {
  fault.action = take_until(text, '@');
  fault.moment = take_until(text, ':');
  while (!text.empty())
    if (!read_setting(take_until(text, ','), fault)) return false;
  if (fault.action == "nan" || fault.moment == "grad")
    return fault.action == "nan" && fault.moment == "grad" && fault.rank >= 0 &&
           fault.milliseconds < 0;
  if (std::find(kMoments.begin(), kMoments.end(), fault.moment) == kMoments.end()) return false;
  if (fault.action == "kill" || fault.action == "stop" || fault.action == "fail")
    return fault.rank >= 0 && fault.milliseconds < 0;
  return fault.action == "slow" && fault.milliseconds >= 0;
}

bool poisons_in(const Fault& fault, int64_t step) {
  return fault.action == "nan" && (fault.step < 0 || fault.step == step);
}

}  // namespace

FaultInjection FaultInjection::parse(const std::string& text, const char* name) {
  FaultInjection injection;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view piece = take_until(rest, ';');
    Fault& fault = injection.faults_.emplace_back();
    CHECK(read_fault(piece, fault), ExitCode::kUsage,
          "{} '{}' is none of kill@MOMENT:rank=R[,step=S], stop@..., fail@..., "
          "nan@grad:rank=R[,step=S] and slow@MOMENT:ms=M with a moment of {}",
          name, piece, fmt::join(kMoments, ", "));
  }
  return injection;
}

FaultInjection FaultInjection::of_run(const std::string& option) {
  constexpr const char* kVariable = "FACET_INJECT";
  FaultInjection injection = parse(option);
  if (!option.empty()) injection.told_ = "--inject " + option;
  const char* const text = std::getenv(kVariable);
  if (text == nullptr || *text == '\0') return injection;
  for (const Fault& fault : parse(text, kVariable).faults_) injection.faults_.push_back(fault);
  injection.told_ += fmt::format("{}{}={}", option.empty() ? "" : ", ", kVariable, text);
  return injection;
}

bool FaultInjection::strikes(const std::string& moment) const {
  return std::any_of(faults_.begin(), faults_.end(),
                     [&](const Fault& fault) { return fault.moment == moment; });
}

bool FaultInjection::poisons_gradients() const {
  return std::any_of(faults_.begin(), faults_.end(),
                     [](const Fault& fault) { return fault.action == "nan"; });
}

bool FaultInjection::poisons(int64_t my_rank, int64_t step) const {
  return std::any_of(faults_.begin(), faults_.end(), [&](const Fault& fault) {
    return poisons_in(fault, step) && fault.rank == my_rank;
  });
}

bool FaultInjection::poisons_anybody(int64_t step) const {
  return std::any_of(faults_.begin(), faults_.end(),
                     [&](const Fault& fault) { return poisons_in(fault, step); });
}

void FaultInjection::at(const std::string& moment, int64_t my_rank, int64_t step) const {
  for (const Fault& fault : faults_) {
    const bool mine = (fault.rank < 0 || fault.rank == my_rank) &&
                      (fault.step < 0 || fault.step == step) && fault.moment == moment;
    if (!mine) continue;
    if (fault.action == "kill") std::raise(SIGKILL);
    if (fault.action == "stop") std::raise(SIGSTOP);
    CHECK(fault.action != "fail", ExitCode::kIo, "{} of step {} fails as --inject asks", moment,
          step);
    std::this_thread::sleep_for(std::chrono::milliseconds(fault.milliseconds));
  }
}

}  // namespace facet
