// Checkpoints of a run: OUT/checkpoints/step_00000012/{state.h5, manifest.json}.
//
// A checkpoint is written under a temporary name, flushed to the disk, read back and compared, and
// only then given its name; older ones are removed behind that. So at any moment a crash leaves the
// newest published one whole. `latest` beside them names it for people and scripts; the program
// itself goes by the step numbers and by what verifies.
#pragma once

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

// A checkpoint whose every byte was compared with its hashes.
struct FoundCheckpoint {
  std::string directory;
  Manifest manifest;
};

// How the ranks bring their bytes into the file: plain writes of each, or MPI-IO of all together.
enum class CheckpointIo : uint8_t { kPosix, kCollective };

class CheckpointStore {
 public:
  CheckpointStore(std::string directory, int64_t keep_last, Communicator& world,
                  MomentHook at_moment = {}, CheckpointIo io = CheckpointIo::kPosix);
  ~CheckpointStore();

  // All functions below are collective but for those that say otherwise; what fails on one rank is
  // a CollectiveError on all.

  // The newest checkpoint that verifies; each one that doesn't is warned about with its reason.
  // Nothing when there is none at all; an error when there are some and none verifies, or when one
  // cannot be read. Puts right what saves that were killed left behind.
  std::optional<FoundCheckpoint> find_newest();

  // Fills the ranges this rank owns. The parameters must be those of the checkpoint, with equal
  // shapes: Error(kConfig) lists the differences.
  void load(const FoundCheckpoint& found, std::span<const StoredParam> params,
            std::span<const StateRange> ranges);

  // Writes and publishes; returns the checkpoint's directory. With kCollective a failed write is an
  // Error on the rank that met it: it has to end the job.
  std::string save(const RunState& state, std::span<const StoredParam> params,
                   std::span<const StateRange> ranges);

  // The same in the background (kPosix only). start_save() copies the state and returns while a
  // thread of each rank writes; finish_save() waits for all of them and publishes. Ranges that stay
  // as they are until then are not copied.
  void start_save(const RunState& state, std::span<const StoredParam> params,
                  std::span<const StateRange> ranges, RangesStay stay = RangesStay::kNo);
  std::string finish_save();
  // Takes the memory of start_save's copies. Not collective.
  void reserve_copies(std::span<const StateRange> ranges) { background_.reserve(ranges); }

  // Behind start_save(), the same on all ranks.
  bool saving() const { return in_flight_.has_value(); }
  int64_t saving_step() const { return in_flight_->manifest.state.step; }
  // Of this rank's thread, for an exchange that the ranks make anyway: finish_save() does not wait
  // when the bits of all ranks, or-ed, say save_is_over(). Not collective.
  int64_t progress_bits() const;
  static bool save_is_over(int64_t bits_of_all);

 private:
  // A checkpoint that does not have its name yet.
  struct Unpublished {
    std::string working;
    Manifest manifest;
  };

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
