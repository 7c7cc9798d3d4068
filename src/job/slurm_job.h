// The Slurm job that this process belongs to, and what squeue says about jobs.
#pragma once

#include <cstdint>
#include <string>

#include "job/command_output.h"

namespace facet {

// Empty texts are unknown; all are outside a job.
struct SlurmJob {
  std::string id;      // what squeue is asked for: "77", or "70_3", the array's id and the task's
  std::string number;  // SLURM_JOB_ID; of an array's last task it is the array's own
  std::string cluster;
  int64_t restarts = 0;  // how often it was requeued

  bool known() const { return !id.empty(); }
  static SlurmJob of_this_process();
};

// Is it an id that squeue may be asked for: "77", "70_3", "77+1"?
bool is_job_id(const std::string& text);

// What `squeue -h -j ID -o FORMAT` prints. Throws Error(kMissingInput) if squeue fails or does not
// answer within 20 s.
std::string ask_squeue(const std::string& id, const std::string& format);

enum class JobState : uint8_t {
  kUnknown,
  kThere,  // it runs, waits or is suspended
  kGone,
};
JobState state_of_job(const std::string& id);
// From the answer of `squeue -h -j ID -o %T`. A job that is COMPLETING may still have processes:
// unknown.
JobState parse_job_state(const CommandEnd& answer);

}  // namespace facet
