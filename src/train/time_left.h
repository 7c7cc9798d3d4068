// How long a run will take from here: its steps, and the evaluations, saves, exports and
// rounds of questions that are still to come, each as long as those so far.
#pragma once

#include <array>
#include <cstdint>

namespace facet {

// How the work of a run is laid out; the options of these names.
struct WorkPlan {
  int64_t total_steps = 0, steps_per_epoch = 0;
  bool evaluates = false;  // there is an evaluation split
  int64_t eval_interval = 0, save_interval = 0;
  double save_minutes = 0;
  int64_t export_every = 1;  // epochs; 0: nothing is exported
  bool samples = false;      // --sample_prompts are answered
  int64_t sample_interval = 0;
};

enum class Work : uint8_t { kStep, kEvaluation, kSave, kExport, kSampling };
inline constexpr size_t kNumKindsOfWork = 5;

// How often each kind of work is still to be done, `step` steps being taken and nothing else since.
struct WorkLeft {
  std::array<int64_t, kNumKindsOfWork> times{};

  int64_t& of(Work work) { return times[static_cast<size_t>(work)]; }
  int64_t of(Work work) const { return times[static_cast<size_t>(work)]; }
};
// Without the saves by the clock.
WorkLeft work_left(const WorkPlan& plan, int64_t step);

// How long training was held up by each kind of work so far, since the process started.
class WorkTimes {
 public:
  void add(Work work, double seconds);
  // 0 for work that has not been done yet: nothing is known of it.
  double mean(Work work) const;

 private:
  std::array<double, kNumKindsOfWork> seconds_{};
  std::array<int64_t, kNumKindsOfWork> times_{};
};

double seconds_left(const WorkPlan& plan, int64_t step, const WorkTimes& times);

}  // namespace facet
