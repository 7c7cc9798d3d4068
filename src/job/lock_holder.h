// Who holds an output directory: the line in its run.lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "job/slurm_job.h"

namespace facet {

struct LockHolder {
  std::string host;
  int64_t pid = 0;
  std::string job = "none";  // Slurm's id, of an array's task "70_3"
  // Empty or absent: not known. Locks of older versions have none of these.
  std::string cluster, boot;  // of Slurm; of the machine: changes when it is started again
  std::optional<int64_t> restarts;
  std::string run;  // tells this process from any other

  static LockHolder this_process(const SlurmJob& job);
  // Nothing if the text is not such a line: it may come from anywhere.
  static std::optional<LockHolder> parse(const std::string& text);
  // "host n1 pid 4711 job 77 restarts 0 ... \n"
  std::string line() const;
  // "host n1 pid 4711 job 77"
  std::string name() const;

  // Machines have other names under another host name space, and may share one ("localhost").
  enum class Machine : uint8_t { kSame, kPerhaps, kOther };
  Machine machine_of(const LockHolder& other) const;
};

// What Slurm says about the holder of a lock. kGone: it belongs to an earlier life of this job,
// before it was requeued, or to a job that is no more. Asks squeue about another job of the same
// cluster. Another step of this job's same life is kUnknown.
JobState state_of_holder(const LockHolder& holder, const SlurmJob& mine);

}  // namespace facet
