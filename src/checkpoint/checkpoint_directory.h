// The directory of a run's checkpoints, as handled by one process: names, publishing, retention.
//
//   step_00000012/           a published checkpoint: state.h5 and manifest.json
//   step_00000012.partial-N  being written by process N, or left by a killed one
//   step_00000009.removed-N  being removed
//   latest                   the name of the newest, for people and scripts
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <future>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/manifest.h"
#include "io/file.h"

namespace facet {

// Called at named moments of a save, at which tests can kill, slow down or fail the process
// (job/fault_injection.h lists them).
using MomentHook = std::function<void(const char* moment, int64_t step)>;

// What such a directory holds, as tidy_directory() takes it (io/file.h).
inline constexpr std::array<std::string_view, 2> kNamesOfCheckpoints = {"step_########/", "latest"};

class CheckpointDirectory {
 public:
  CheckpointDirectory(std::string path, int64_t keep_last, MomentHook at_moment);
  ~CheckpointDirectory() { finish_removal(); }

  const std::string& path() const { return path_; }
  std::string of_step(int64_t step) const;
  void at_moment(const char* moment, int64_t step) const;

  // Cleans up after saves that were killed.
  void remove_leftovers() const;
  // Marks a checkpoint that does not verify: it is not removed, and no longer counts among those to
  // keep.
  void reject(int64_t step) { rejected_.insert(step); }
  // From now on no checkpoint is removed.
  void keep_older_ones() { keeps_all_ = true; }
  // Creates the directory, and the one in which the checkpoint is written until it is published, if
  // there is space for these arrays; returns its name.
  std::string prepare(int64_t step, const std::vector<StoredArray>& arrays);
  // Renames a finished, durable checkpoint, points `latest` at it and removes old ones. The slow
  // part of the removal continues in a thread.
  void publish(const std::string& working, int64_t step);

 private:
  void write_latest(const std::string& place) const;
  void remove_old(int64_t newest);
  void finish_removal();

  std::string path_;
  int64_t keep_last_;
  bool keeps_all_ = false;
  std::set<int64_t> rejected_;
  MomentHook at_moment_;
  std::future<void> removal_;
};

// The steps of the checkpoints in this directory, ascending; empty if there is no directory. kIo.
std::vector<int64_t> published_steps(const std::string& directory);

// manifest.json of one checkpoint, verified; the state file is not read.
Manifest read_manifest(const std::string& checkpoint);
void write_manifest(const std::string& checkpoint, const Manifest& manifest);
// The path of the file with its arrays.
std::string state_file_of(const std::string& checkpoint);

}  // namespace facet
