// The directory of a run's checkpoints as one process deals with it: names, publishing, retention.
//
//   step_00000012/           a published checkpoint: state.h5 and manifest.json
//   step_00000012.partial-N  being written by process N, or left behind by one that was killed
//   step_00000009.removed-N  being removed
//   latest                   the name of the newest, for people and scripts
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "io/file.h"

namespace facet {

// Called at named moments of a save, where a test may end, slow or fail the process
// (job/fault_injection.h lists them).
using MomentHook = std::function<void(const char* moment, int64_t step)>;

class CheckpointDirectory {
 public:
  CheckpointDirectory(std::string path, int64_t keep_last, MomentHook at_moment);
  ~CheckpointDirectory() { finish_removal(); }

  const std::string& path() const { return path_; }
  std::string of_step(int64_t step) const;
  // Where this process writes the checkpoint before it gets its name.
  std::string working_name(int64_t step) const;
  void at_moment(const char* moment, int64_t step) const;

  // Puts right what saves that were killed left behind.
  void remove_leftovers() const { tidy_directory(path_); }
  // This checkpoint does not verify: it stays, and no longer counts among those to keep.
  void reject(int64_t step) { rejected_.insert(step); }
  // Makes the directory, and the one to write in, if there is room for these arrays.
  void prepare(const std::string& working, const std::vector<StoredArray>& arrays);
  // Gives a finished, durable checkpoint its name, points `latest` at it and removes old ones. What
  // takes long of the last goes on in a thread.
  void publish(const std::string& working, int64_t step);

 private:
  void remove_old(int64_t newest);
  void finish_removal();

  std::string path_;
  int64_t keep_last_;
  std::set<int64_t> rejected_;
  MomentHook at_moment_;
  std::future<void> removal_;
};

// The steps of the checkpoints under this directory, rising; none without the directory. kIo.
std::vector<int64_t> published_steps(const std::string& directory);

// manifest.json of one checkpoint, itself verified; the state file is not looked at.
Manifest read_manifest(const std::string& checkpoint);
void write_manifest(const std::string& checkpoint, const Manifest& manifest);
// Where its arrays are.
std::string state_file_of(const std::string& checkpoint);

}  // namespace facet
