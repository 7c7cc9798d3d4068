// Learning-rate schedules: a multiplier on every group's learning rate, a pure function of the
// optimizer steps taken. The six of Hugging Face's get_scheduler, with its defaults (cosine: half a
// period; restarts: one cycle; polynomial: power 1, ending at the rate 1e-7).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace facet {

enum class ScheduleType : uint8_t {
  kLinear,
  kCosine,
  kCosineWithRestarts,
  kPolynomial,
  kConstant,
  kConstantWithWarmup,
};

// "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup".
const std::vector<std::string>& schedule_names();
// Throws Error(kUsage) that lists the valid names.
ScheduleType schedule_from_name(const std::string& name);

// --num_warmup_steps: up to 1 it is a fraction of all steps, above 1 a number of steps; both are
// truncated.
int64_t resolve_warmup_steps(double num_warmup_steps, int64_t total_steps);

class LrSchedule {
 public:
  // learning_rate is --learning_rate; only the polynomial needs it.
  LrSchedule(ScheduleType type, int64_t warmup_steps, int64_t total_steps, double learning_rate);
  // The multiplier of optimizer step t, counted from 0.
  double factor(int64_t t) const;

 private:
  double decay(int64_t t) const;

  ScheduleType type_;
  int64_t warmup_steps_;
  int64_t total_steps_;
  double end_factor_;
};

}  // namespace facet
