#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace facet {
namespace {
constexpr double kPolynomialEndRate = 1e-7;
}

const std::vector<std::string>& schedule_names() {
  static const std::vector<std::string> names = {"linear",     "cosine",   "cosine_with_restarts",
                                                 "polynomial", "constant", "constant_with_warmup"};
  return names;
}

ScheduleType schedule_from_name(const std::string& name) {
  const auto& names = schedule_names();
  const auto found = std::find(names.begin(), names.end(), name);
  CHECK(found != names.end(), ExitCode::kUsage,
        "unknown schedule '{}': use linear, cosine, cosine_with_restarts, polynomial, constant or "
        "constant_with_warmup",
        name);
  return static_cast<ScheduleType>(found - names.begin());
}

int64_t resolve_warmup_steps(double num_warmup_steps, int64_t total_steps) {
  if (num_warmup_steps > 1) return static_cast<int64_t>(num_warmup_steps);
  return static_cast<int64_t>(num_warmup_steps * static_cast<double>(total_steps));
}

LrSchedule::LrSchedule(ScheduleType type, int64_t warmup_steps, int64_t total_steps,
                       double learning_rate)
    : type_(type),
      warmup_steps_(warmup_steps),
      total_steps_(total_steps),
      end_factor_(learning_rate > 0 ? kPolynomialEndRate / learning_rate : 0) {
  CHECK(type != ScheduleType::kPolynomial || learning_rate > kPolynomialEndRate, ExitCode::kConfig,
        "the polynomial schedule ends at learning rate {}; --learning_rate {} must be larger",
        kPolynomialEndRate, learning_rate);
}

double LrSchedule::factor(int64_t t) const {
  if (type_ == ScheduleType::kConstant) return 1;
  if (t < warmup_steps_)
    return static_cast<double>(t) / static_cast<double>(std::max<int64_t>(1, warmup_steps_));
  return decay(t);
}

double LrSchedule::decay(int64_t t) const {
  const auto past_warmup = static_cast<double>(t - warmup_steps_);
  const auto decay_steps = static_cast<double>(std::max<int64_t>(1, total_steps_ - warmup_steps_));
  const double progress = past_warmup / decay_steps;
  switch (type_) {
    case ScheduleType::kLinear: return std::max(0.0, 1 - progress);
    case ScheduleType::kCosine:
      return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
    case ScheduleType::kCosineWithRestarts:
      return progress >= 1 ? 0 : std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
    case ScheduleType::kPolynomial:
      return t > total_steps_ ? end_factor_ : (1 - end_factor_) * (1 - progress) + end_factor_;
    case ScheduleType::kConstant:
    case ScheduleType::kConstantWithWarmup: return 1;
  }
  return 1;
}

}  // namespace facet
