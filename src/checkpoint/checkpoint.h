// Checkpoints of a run: OUT/checkpoints/step_00000012/{state.h5, manifest.json}.
//
// A checkpoint is written under a temporary name, flushed to disk, read back and compared, and only
// then renamed; older ones are removed after that. So a crash at any moment leaves the newest
// published one intact. The file `latest` names it for people and scripts; the program itself goes
// by step numbers and verification.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/background_write.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/state_file.h"
#include "comm/mpi_session.h"

namespace facet {

// A checkpoint all of whose bytes were compared with its hashes.
struct FoundCheckpoint {
  std::string directory;
  Manifest manifest;
};

// How the ranks write the file: plain writes by each, or MPI-IO by all together.
enum class CheckpointIo : uint8_t { kPosix, kCollective };

// Throws Error(kBadData) if the state read from the checkpoint `directory` contradicts itself.
using StateCheck = std::function<void(const RunState& state, const std::string& directory)>;

class CheckpointStore {
 public:
  CheckpointStore(std::string directory, int64_t keep_last, Communicator& world,
                  MomentHook at_moment = {}, CheckpointIo io = CheckpointIo::kPosix);
  ~CheckpointStore();

  // All functions below are collective unless they say otherwise; a failure on one rank is a
  // CollectiveError on all.

  // The newest checkpoint that verifies and passes `check`, with a warning and a reason for each
  // one that does not.
  // Nothing if there are no checkpoints; an error if there are some and none verifies, or if one
  // cannot be read. Also cleans up after saves that were killed.
  std::optional<FoundCheckpoint> find_newest(const StateCheck& check = {});
  // The same among those of at most that many steps; nothing, after the warnings, if none of them
  // verifies.
  std::optional<FoundCheckpoint> find_newest_up_to(int64_t step, const StateCheck& check = {});
  // The steps of the published checkpoints, ascending, verified or not; cleans up as well.
  std::vector<int64_t> steps();
  // Of one of them, without a look at its arrays. Not collective.
  Manifest manifest_of(int64_t step) const { return read_manifest(directory_.of_step(step)); }

  // Fills the ranges this rank owns. The parameters must be those of the checkpoint, with equal
  // shapes: Error(kConfig) lists the differences.
  void load(const FoundCheckpoint& found, std::span<const StoredParam> params,
            std::span<const StateRange> ranges);

  // Writes and publishes; returns the checkpoint's directory. With kCollective a failed write is an
  // Error on that rank only, and must end the job.
  std::string save(const RunState& state, std::span<const StoredParam> params,
                   std::span<const StateRange> ranges);

  // The same in the background (kPosix only). start_save() copies the state and returns while a
  // thread of each rank writes; finish_save() waits for all of them and publishes. Ranges that do
  // not change until then are not copied.
  void start_save(const RunState& state, std::span<const StoredParam> params,
                  std::span<const StateRange> ranges, RangesStay stay = RangesStay::kNo);
  std::string finish_save();
  // Allocates the memory for start_save's copies. Not collective.
  void reserve_copies(std::span<const StateRange> ranges) { background_.reserve(ranges); }

  // From now on publishing removes no older checkpoint. Not collective.
  void keep_older_ones() { directory_.keep_older_ones(); }

  // After start_save(); the same on all ranks.
  bool saving() const { return in_flight_.has_value(); }
  int64_t saving_step() const { return in_flight_->manifest.state.step; }
  // The state of this rank's thread, to be OR-ed over all ranks in an exchange that they make
  // anyway: finish_save() does not wait once save_is_over(those bits). Not collective.
  int64_t progress_bits() const;
  static bool save_is_over(int64_t bits_of_all);

 private:
  // A checkpoint that has not been published yet.
  struct Unpublished {
    std::string working;
    Manifest manifest;
  };

  std::optional<FoundCheckpoint> first_that_verifies(const std::vector<int64_t>& newest_first,
                                                     const StateCheck& check);
  Unpublished create(const RunState& state, std::span<const StoredParam> params);
  std::vector<WrittenRange> write(const Unpublished& checkpoint,
                                  std::span<const StateRange> ranges);
  std::string publish(Unpublished& checkpoint, const std::vector<WrittenRange>& written);
  std::vector<WrittenRange> written_in_background();
  void give_up();
  void discard(const Unpublished& checkpoint) const;

  CheckpointDirectory directory_;
  Communicator& world_;
  CheckpointIo io_;
  std::optional<Unpublished> in_flight_;
  BackgroundWrite background_;
};

}  // namespace facet
