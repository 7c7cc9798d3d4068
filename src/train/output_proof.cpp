#include "train/output_proof.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "comm/mpi_session.h"
#include "io/file.h"
#include "job/run_lock.h"
#include "train/export_plan.h"
#include "train/restored_run.h"
#include "train/resume.h"
#include "train/run_costs.h"
#include "train/run_setup.h"

namespace facet {

namespace fs = std::filesystem;

std::string nearest_existing(const std::string& path) {
  std::error_code error;
  fs::path place = fs::absolute(path, error);
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  return place.string();
}

namespace {

// By making a directory with a file in it, and removing both.
void prove_writable(const std::string& directory) {
  const std::string trial = fmt::format("{}/facet-dry-run.partial-{}", directory, ::getpid());
  std::error_code error;
  CHECK(fs::is_directory(directory, error), ExitCode::kIo, "--output_dir: {} is not a directory",
        directory);
  try {
    make_directories(trial);
    write_file(trial + "/file", "written by a dry run");
  } catch (const Error& failed) {
    fs::remove_all(trial, error);
    fail(ExitCode::kIo, "--output_dir: nothing can be written: {}", failed.what());
  }
  fs::remove_all(trial, error);
}

bool same_file_system(const std::string& a, const std::string& b) {
  struct stat of_a {
  }, of_b{};
  return ::stat(a.c_str(), &of_a) == 0 && ::stat(b.c_str(), &of_b) == 0 &&
         of_a.st_dev == of_b.st_dev;
}

void prove_room(const std::string& directory, int64_t bytes, const std::string& what) {
  const int64_t free = free_bytes(directory);
  CHECK(bytes <= free, ExitCode::kIo,
        "{}: {} need {}, {} are free; free space, or choose another "
        "--output_dir",
        directory, what, bytes_text(bytes), bytes_text(free));
  log("{}: {} need {}, {} are free", directory, what, bytes_text(bytes), bytes_text(free));
}

// By the types of the model files; 0 if the run exports nothing.
int64_t largest_export_bytes(const Options& options, const ModelSetup& model) {
  const ExportPlan exports = plan_exports(options, model.table);
  int64_t bytes = 0;
  for (const std::optional<ExportKind>& kind : {exports.each, exports.last})
    if (kind)
      bytes = std::max(
          bytes, estimated_export_bytes(model.table, model.config, export_sources(options, model),
                                        {.kind = *kind, .type = export_type(options)}));
  return bytes;
}

// Checkpoints may lie on a disk of their own, behind a link.
void prove_room(const Options& options, const ModelSetup& model, const std::string& checkpoints,
                int64_t checkpoint_bytes) {
  const int64_t export_bytes = largest_export_bytes(options, model);
  const std::string for_checkpoints = nearest_existing(checkpoints);
  const std::string for_exports = nearest_existing(options.output_dir);
  if (same_file_system(for_checkpoints, for_exports))
    return prove_room(for_exports, checkpoint_bytes + export_bytes, "a checkpoint and an export");
  prove_room(for_checkpoints, checkpoint_bytes, "a checkpoint");
  prove_room(for_exports, export_bytes, "an export");
}

int64_t checkpoint_bytes(const Options& options, ModelSetup& model) {
  return estimated_bytes(arrays_of(stored_params(make_groups(options, model.table))));
}

// The ranks that a run with these options needs for steps as large as the checkpoint's; 0: none do.
int64_t ranks_needed(const Options& options, int64_t global_batch) {
  const int64_t of_rank = options.samples_of_rank();
  return global_batch % of_rank == 0 ? global_batch / of_rank : 0;
}

// A dry run loads no weights and may be made on fewer ranks than the run: the frozen weights are
// taken to be those of the checkpoint, and the ranks to be as many as its steps need.
void report_beginning(const Options& options, const VlmConfig& model, const DataSetup& data,
                      CheckpointStore& store, Communicator& world) {
  const std::optional<FoundCheckpoint> found = store.find_newest();
  if (!found) return log("the run starts new: there is no checkpoint in {}", options.output_dir);
  const RunState& state = found->manifest.state;
  const int64_t ranks = ranks_needed(options, state.global_batch);
  RunState now = identify_run(options, model, data, state.frozen_hash,
                              plan_steps(options, *data.source).total_steps, world);
  if (ranks > 0) now.global_batch = state.global_batch;
  collectively(world, [&] { check_same_run(state, now, found->directory); });
  log("the run continues from {}: step {}, epoch {}, step {} of it; it needs {} ranks",
      found->directory, state.step, state.epoch + 1, state.next_step, ranks);
}

}  // namespace

void prove_output_directory(const Options& options, ModelSetup& model, const DataSetup& data,
                            Communicator& world) {
  const std::string checkpoints = options.output_dir + "/checkpoints";
  std::unique_ptr<RunLock> lock;  // while the checkpoints are read, a run must not remove them
  bool is_there = false;
  collectively(world, [&] {
    std::error_code error;
    is_there = fs::exists(options.output_dir, error);
    if (world.rank() != 0) return;
    prove_writable(nearest_existing(options.output_dir));
    if (is_there) lock = std::make_unique<RunLock>(options.output_dir);
    prove_room(options, model, checkpoints, checkpoint_bytes(options, model));
  });
  is_there = world.broadcast(int64_t{is_there}, 0) != 0;
  if (!is_there) return log("the run starts new: {} is not there yet", options.output_dir);
  CheckpointStore store(checkpoints, options.keep_last, world);
  report_beginning(options, model.config, data, store, world);
}

}  // namespace facet
