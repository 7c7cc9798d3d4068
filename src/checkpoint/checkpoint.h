// Checkpoints of a run: OUT/checkpoints/step_00000012/{state.h5, manifest.json}.
//
// A checkpoint is written under a temporary name, flushed to the disk, read back and compared, and
// only then given its name; older ones are removed behind that. So at any moment a crash leaves the
// newest published one whole. `latest` beside them names it for people and scripts; the program
// itself goes by the step numbers and by what verifies.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/state_file.h"
#include "comm/session.h"

namespace facet {

// A checkpoint whose every byte was compared with its hashes.
struct FoundCheckpoint {
  std::string directory;
  Manifest manifest;
};

class CheckpointStore {
 public:
  // Called at named moments of a save, where a test may end the process: ckpt.write, ckpt.rename,
  // ckpt.latest, ckpt.retention.
  using MomentHook = std::function<void(const char* moment, int64_t step)>;

  CheckpointStore(std::string directory, int64_t keep_last, Communicator& world,
                  MomentHook at_moment = {});

  // All functions below are collective; what fails on one rank is a CollectiveError on all.

  // The newest checkpoint that verifies; each one that doesn't is warned about with its reason.
  // Nothing when there is none at all; an error when there are some and none verifies. Removes what
  // saves that were killed left behind.
  std::optional<FoundCheckpoint> find_newest();

  // Fills the ranges this rank owns. The parameters must be those of the checkpoint, with equal
  // shapes: Error(kConfig) lists the differences.
  void load(const FoundCheckpoint& found, std::span<const StoredParam> params,
            std::span<const StateRange> ranges);

  // Writes and publishes; returns the checkpoint's directory.
  std::string save(const RunState& state, std::span<const StoredParam> params,
                   std::span<const StateRange> ranges);

 private:
  std::string directory_of(int64_t step) const;
  void check_space(const std::vector<StoredArray>& arrays) const;
  void write(const std::string& working, Manifest& manifest, std::span<const StateRange> ranges);
  void publish(const std::string& working, int64_t step);
  void remove_old(int64_t newest) const;
  void at_moment(const char* moment, int64_t step) const;

  std::string directory_;
  int64_t keep_last_;
  Communicator& world_;
  MomentHook at_moment_;
};

// The steps of the checkpoints under this directory, rising.
std::vector<int64_t> published_steps(const std::string& directory);

// manifest.json of one checkpoint, itself verified; the state file is not looked at.
Manifest read_manifest(const std::string& checkpoint);
// Where its arrays are.
std::string state_file_of(const std::string& checkpoint);

}  // namespace facet
